//! End-to-end tests, in `it`: all services in one process, on real parts. This library is empty.
