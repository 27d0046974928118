//! A byte buffer that is written once, read in order, and never moved: instead of growing, it adds
//! another segment.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

use bytes::{Buf as _, Bytes};
use parquet::{
    errors::ParquetError,
    file::reader::{ChunkReader, Length},
};

/// Size of each segment in bytes; the last may be shorter.
const SEGMENT: usize = 1 << 20;

/// Segments being written.
#[derive(Default)]
pub(super) struct Segments(Vec<Vec<u8>>);

/// Segments that have been written.
pub(super) struct Written(Vec<Bytes>);

impl Segments {
    pub(super) fn done(self) -> Written {
        Written(self.0.into_iter().map(Bytes::from).collect())
    }
}

impl Write for Segments {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = self.0.last().map_or(0, |last| SEGMENT - last.len());
        if room == 0 {
            self.0.push(Vec::with_capacity(SEGMENT));
        }
        let taken = data.len().min(if room == 0 { SEGMENT } else { room });
        if let Some(last) = self.0.last_mut() {
            last.extend_from_slice(&data[..taken]);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Length for Written {
    fn len(&self) -> u64 {
        self.0.iter().map(|segment| segment.len() as u64).sum()
    }
}

impl ChunkReader for Written {
    type T = Reading;

    fn get_read(&self, start: u64) -> Result<Reading, ParquetError> {
        let mut skipped = start;
        let rest = self.0.iter().map(|segment| {
            let here = skipped.min(segment.len() as u64);
            skipped -= here;
            segment.slice(usize::try_from(here).unwrap_or(usize::MAX)..)
        });
        Ok(Reading(rest.collect()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads segments in order.
pub(super) struct Reading(VecDeque<Bytes>);

impl Read for Reading {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(front) = self.0.front_mut() else { return Ok(0) };
        let taken = to.len().min(front.len());
        front.copy_to_slice(&mut to[..taken]);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_from_anywhere_on() {
        let data: Vec<u8> = (0..5 * SEGMENT / 2).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut segments = Segments::default();
        for piece in data.chunks(300_007) {
            segments.write_all(piece).unwrap();
        }
        let written = segments.done();
        assert_eq!(written.len(), data.len() as u64);
        assert!(written.0.iter().rev().skip(1).all(|segment| segment.len() == SEGMENT));
        for start in
            [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, data.len() - 1, data.len()]
        {
            let mut read = Vec::new();
            written.get_read(start as u64).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == data[start..], "from {start}");
        }
        assert!(
            written.get_bytes(SEGMENT as u64 - 5, 10).unwrap() == data[SEGMENT - 5..SEGMENT + 5]
        );
        assert!(written.get_bytes(data.len() as u64 - 5, 10).is_err());
    }
}
