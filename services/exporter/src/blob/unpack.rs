//! Decompresses objects in steps, each booked before it is taken, so that an object of a few
//! kilobytes cannot fill the memory. Long steps run off the reactor.

use std::io::Read;

use bytes::{Buf as _, Bytes};
use tracelift_runtime::tasks;

use super::Miss;
use crate::budget::Turn;

/// The first step is [`FIRST_RATIO`] times the object's size, within these bounds in bytes. It is
/// short enough for the reactor.
const FIRST_STEP: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;
const FIRST_RATIO: usize = 8;
/// Longest of the other steps, in bytes. Each is a quarter of what there is already, so that growing
/// copies little.
const LONGEST_STEP: usize = 16 << 20;
/// Below this size, any ratio is accepted; in bytes. What is larger may be at most [`MAX_RATIO`]
/// times as large as its object, the most that gzip can reach.
const FREE_BYTES: usize = 16 << 20;
const MAX_RATIO: usize = 1032;
/// How many encodings an object may have; more than two are not seen.
const MAX_LABELS: usize = 4;
/// Largest window of zstd, as a power of two: 32 MiB, what `zstd -20` uses.
const ZSTD_WINDOW_LOG: u32 = 25;

/// How bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Zlib,
    Deflate,
    Zstd,
    Brotli,
}

/// Decompresses a body according to its Content-Encoding and its first bytes. If they disagree, the
/// header is wrong: proxies decompress in transit and leave it in place.
pub(super) async fn unpack(
    body: Vec<u8>,
    encoding: Option<&str>,
    max_bytes: u64,
    turn: &mut Turn,
) -> Result<Vec<u8>, Miss> {
    let labels: Vec<_> = encoding
        .unwrap_or_default()
        .split(',')
        .map(|label| label.trim().to_ascii_lowercase())
        .collect();
    if labels.len() > MAX_LABELS {
        return Err(Miss::NotUnpackable);
    }
    let mut unpacking = Unpacking { body, max_bytes, turn };
    for label in labels.iter().rev() {
        match label.as_str() {
            "gzip" | "x-gzip" | "zstd" => unpacking.by_magic().await?,
            "deflate" => unpacking.deflate().await?,
            "br" => unpacking.brotli().await?,
            _ => {}
        }
    }
    unpacking.by_magic().await?;
    Ok(unpacking.body)
}

struct Unpacking<'a> {
    body: Vec<u8>,
    max_bytes: u64,
    turn: &'a mut Turn,
}

impl Unpacking<'_> {
    async fn by_magic(&mut self) -> Result<(), Miss> {
        let encoding = match self.body.as_slice() {
            [0x1f, 0x8b, ..] => Encoding::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Encoding::Zstd,
            _ => return Ok(()),
        };
        let packed = self.take();
        self.body = self.inflated(encoding, packed).await?;
        Ok(())
    }

    /// Inflates with or without zlib's header; text that is neither stays as it is.
    async fn deflate(&mut self) -> Result<(), Miss> {
        let packed = self.take();
        self.body = match self.inflated(Encoding::Zlib, packed.clone()).await {
            Err(Miss::NotUnpackable) if std::str::from_utf8(&packed).is_ok() => packed.into(),
            Err(Miss::NotUnpackable) => self.inflated(Encoding::Deflate, packed).await?,
            outcome => outcome?,
        };
        Ok(())
    }

    /// Compressed bytes are not valid text, and text is not valid Brotli.
    async fn brotli(&mut self) -> Result<(), Miss> {
        if std::str::from_utf8(&self.body).is_err() {
            let packed = self.take();
            self.body = self.inflated(Encoding::Brotli, packed).await?;
        }
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.body).into()
    }

    async fn inflated(&mut self, encoding: Encoding, packed: Bytes) -> Result<Vec<u8>, Miss> {
        let size = packed.len();
        let reader = reader(encoding, packed).map_err(|_| Miss::NotUnpackable)?;
        let mut step = (size * FIRST_RATIO).clamp(*FIRST_STEP.start(), *FIRST_STEP.end());
        let mut inflating = Inflating { reader, bytes: Vec::new() };
        loop {
            self.turn.wait_for(step as u64).await;
            let inflated = if FIRST_STEP.contains(&step) {
                inflating.on(step)
            } else {
                let moved = tasks::compute(move || inflating.on(step)).await;
                moved.map_err(|_| Miss::NotUnpackable)?
            };
            let is_done = match inflated {
                Ok((back, is_done)) => {
                    inflating = back;
                    is_done
                }
                Err(_) => return Err(Miss::NotUnpackable),
            };
            let length = inflating.bytes.len();
            if length as u64 > self.max_bytes {
                return Err(Miss::TooLarge);
            }
            if length > FREE_BYTES && length / MAX_RATIO > size {
                return Err(Miss::Bomb);
            }
            if is_done {
                inflating.bytes.shrink_to_fit();
                return Ok(inflating.bytes);
            }
            step = (length / 4).clamp(FIRST_STEP.end() + 1, LONGEST_STEP);
        }
    }
}

/// A decompressor, and what it has made so far.
struct Inflating {
    reader: Box<dyn Read + Send>,
    bytes: Vec<u8>,
}

impl Inflating {
    /// Decompresses up to `step` bytes more; returns whether the end was reached.
    fn on(mut self, step: usize) -> std::io::Result<(Self, bool)> {
        self.bytes.reserve_exact(step);
        let more = (&mut self.reader).take(step as u64).read_to_end(&mut self.bytes)?;
        Ok((self, more < step))
    }
}

fn reader(encoding: Encoding, packed: Bytes) -> std::io::Result<Box<dyn Read + Send>> {
    let packed = packed.reader();
    Ok(match encoding {
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Encoding::Zlib => Box::new(flate2::bufread::ZlibDecoder::new(packed)),
        Encoding::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Encoding::Brotli => Box::new(brotli_decompressor::Decompressor::new(packed, 4096)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures::FutureExt as _;

    use super::*;
    use crate::budget::Budget;

    const TEXT: &str = r#"{"a": "é"}"#;
    const MAX: u64 = 1000;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &str) -> Vec<u8> {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// `TEXT`, compressed by Node's zlib.
    const BROTLI: [u8; 15] =
        [0x0b, 0x05, 0x80, 0x7b, 0x22, 0x61, 0x22, 0x3a, 0x20, 0x22, 0xc3, 0xa9, 0x22, 0x7d, 0x03];

    async fn alone(body: Vec<u8>, encoding: Option<&str>, max: u64) -> Result<Vec<u8>, Miss> {
        unpack(body, encoding, max, &mut Budget::new(0).turn(0)).await
    }

    #[tokio::test]
    async fn packed_objects_are_unpacked_whether_or_not_they_say_so() {
        let (zstd, plain) =
            (zstd::encode_all(TEXT.as_bytes(), 1).unwrap(), TEXT.as_bytes().to_vec());
        let packed = [
            (gzip(TEXT), None),
            (gzip(TEXT), Some("GZIP")),
            (gzip(TEXT), Some("gzip, aws-chunked")),
            (gzip(TEXT), Some("zstd")),
            (gzip(TEXT), Some("unheard-of")),
            (zstd.clone(), None),
            (zstd, Some("zstd")),
            (zlib(TEXT), Some("deflate")),
            (deflate(TEXT), Some("deflate")),
            (BROTLI.to_vec(), Some("br")),
            (gzip(TEXT), Some("gzip, gzip")),
        ];
        for (body, encoding) in packed {
            let unpacked = alone(body, encoding, MAX).await;
            assert_eq!(unpacked, Ok(TEXT.as_bytes().to_vec()), "{encoding:?}");
        }
        for label in [
            "identity",
            "gzip",
            "x-gzip",
            "zstd",
            "deflate",
            "br",
            "aws-chunked",
            "utf-8",
            "",
            "gzip,zstd",
        ] {
            let unpacked = alone(plain.clone(), Some(label), MAX).await;
            assert_eq!(unpacked, Ok(plain.clone()), "a wrong label: {label}");
        }
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_at_the_limit_and_a_broken_pack_is_a_miss() {
        let long = "x".repeat(2000);
        assert_eq!(alone(gzip(&long), None, MAX).await, Err(Miss::TooLarge));
        assert_eq!(alone(zlib(&long), Some("deflate"), MAX).await, Err(Miss::TooLarge));
        assert_eq!(alone(gzip(TEXT)[..15].to_vec(), None, MAX).await, Err(Miss::NotUnpackable));
        let labels = vec!["gzip"; 1000].join(",");
        assert_eq!(alone(gzip(TEXT), Some(&labels), MAX).await, Err(Miss::NotUnpackable));
    }

    #[tokio::test]
    async fn what_is_much_larger_than_its_object_is_a_miss_and_what_is_small_is_not() {
        let zstd = |bytes: usize| zstd::encode_all(" ".repeat(bytes).as_bytes(), 1).unwrap();
        let limit = 64 << 20;
        assert_eq!(alone(zstd(32 << 20), None, limit).await, Err(Miss::Bomb));
        assert_eq!(alone(zstd(8 << 20), None, limit).await.map(|text| text.len()), Ok(8 << 20));
        let gzip = gzip(&" ".repeat(32 << 20));
        assert_eq!(alone(gzip, None, limit).await.map(|text| text.len()), Ok(32 << 20));
    }

    #[tokio::test]
    async fn what_is_unpacked_waits_for_room_before_it_is_there() {
        let budget = Budget::new(1 << 20);
        let (first, mut second) = (budget.turn(0), budget.turn(1));
        let packed = gzip(&" ".repeat(4 << 20));
        assert!(unpack(packed.clone(), None, 8 << 20, &mut second).now_or_never().is_none());
        drop((first, second));
        assert!(unpack(packed, None, 8 << 20, &mut budget.turn(2)).await.is_ok());
    }
}
