//! The bytes that stored values are made of: variable-length integers, texts, moments. Reading never panics; what cannot
//! be read is [`Corrupt`].

use jiff::Timestamp;

/// A stored value that does not read as what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stored {what} cannot be read: the state is damaged or of another version; restore it, or rebuild it by replaying the input into a new state directory"
)]
pub struct Corrupt {
    /// What was being read.
    pub what: &'static str,
}

/// Appends an integer, seven bits a byte, least significant first.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, value: u64) {
    // Most numbers are small.
    if value < 0x80 {
        out.push(value as u8);
    } else {
        put_long_uint(out, value);
    }
}

fn put_long_uint(out: &mut Vec<u8>, mut value: u64) {
    let (mut bytes, mut length) = ([0; UINT_BYTES], 0);
    for byte in &mut bytes {
        *byte = value as u8 | 0x80;
        (value, length) = (value >> 7, length + 1);
        if value == 0 {
            *byte &= 0x7f;
            break;
        }
    }
    out.extend_from_slice(&bytes[..length]);
}

/// The longest of them: 64 bits, seven a byte.
const UINT_BYTES: usize = 10;

/// Appends a signed integer, small magnitudes short.
#[inline]
pub fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes with their length.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends, with its length before it: as [`put_bytes`] of that.
pub fn put_framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(UINT_BYTES);
        put_uint(&mut prefix, length as u64);
        out.splice(start..=start, prefix);
    }
}

// The lowest bit of a moment's first eight bytes: whether they count milliseconds, or seconds with nanoseconds behind.
const MILLIS: i64 = 0;
const NANOS: i64 = 1;
const NANOS_PER_MILLI: i32 = 1_000_000;

/// Appends a moment: eight bytes, unless it is finer than milliseconds. A record has a dozen, so they are read and written
/// at once and not seven bits at a time.
#[inline]
pub fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    let nano = time.subsec_nanosecond();
    if nano % NANOS_PER_MILLI == 0 {
        out.extend_from_slice(&(time.as_millisecond() << 1 | MILLIS).to_le_bytes());
    } else {
        out.extend_from_slice(&(time.as_second() << 1 | NANOS).to_le_bytes());
        out.extend_from_slice(&nano.to_le_bytes());
    }
}

/// Appends a moment or none.
#[inline]
pub fn put_time_option(out: &mut Vec<u8>, time: Option<Timestamp>) {
    out.push(u8::from(time.is_some()));
    if let Some(time) = time {
        put_time(out, time);
    }
}

/// Appends a float, all bits.
#[inline]
pub fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Reads what the `put_*` functions wrote.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which hold a `what`.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { bytes, what }
    }

    /// The error for a value that reads but cannot be.
    pub fn corrupt(&self) -> Corrupt {
        Corrupt { what: self.what }
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (first, rest) = self.bytes.split_first().ok_or(Corrupt { what: self.what })?;
        self.bytes = rest;
        Ok(*first)
    }

    /// The inverse of [`put_uint`].
    #[inline]
    pub fn uint(&mut self) -> Result<u64, Corrupt> {
        match self.bytes {
            [first, rest @ ..] if *first < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_uint(),
        }
    }

    fn long_uint(&mut self) -> Result<u64, Corrupt> {
        // Of up to eight bytes, all at once: the last is the first without the high bit.
        if let Some(chunk) = self.bytes.first_chunk::<8>() {
            const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
            let word = u64::from_le_bytes(*chunk);
            let ends = !word & HIGH_BITS;
            if ends != 0 {
                let own = word & (ends ^ (ends - 1)) & !HIGH_BITS;
                // Eight times seven bits become four times fourteen, twice twenty-eight, and one.
                let own = (own & 0x007f_007f_007f_007f) | ((own & 0x7f00_7f00_7f00_7f00) >> 1);
                let own = (own & 0x0000_3fff_0000_3fff) | ((own & 0x3fff_0000_3fff_0000) >> 2);
                let own = (own & 0x0fff_ffff) | ((own & 0x0fff_ffff_0000_0000) >> 4);
                self.bytes = &self.bytes[ends.trailing_zeros() as usize / 8 + 1..];
                return Ok(own);
            }
        }
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt())
    }

    /// The inverse of [`put_int`].
    #[inline]
    pub fn int(&mut self) -> Result<i64, Corrupt> {
        let value = self.uint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count of things that take at least one byte each, so that no corrupt count allocates more than there is.
    #[inline]
    pub fn count(&mut self) -> Result<usize, Corrupt> {
        let count = self.uint()? as usize;
        if count <= self.bytes.len() { Ok(count) } else { Err(self.corrupt()) }
    }

    /// The inverse of [`put_bytes`].
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.count()?;
        let (head, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Ok(head)
    }

    /// The inverse of [`put_bytes`], of a text.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, Corrupt> {
        let corrupt = self.corrupt();
        std::str::from_utf8(self.bytes()?).map_err(|_| corrupt)
    }

    /// The inverse of [`put_time`].
    #[inline]
    pub fn time(&mut self) -> Result<Timestamp, Corrupt> {
        let marked = i64::from_le_bytes(self.array()?);
        let time = match marked & 1 {
            MILLIS => Timestamp::from_millisecond(marked >> 1),
            _ => Timestamp::new(marked >> 1, i32::from_le_bytes(self.array()?)),
        };
        time.map_err(|_| self.corrupt())
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(Corrupt { what: self.what })?;
        self.bytes = rest;
        Ok(*head)
    }

    /// The inverse of [`put_time_option`].
    #[inline]
    pub fn time_option(&mut self) -> Result<Option<Timestamp>, Corrupt> {
        Ok(if self.byte()? == 0 { None } else { Some(self.time()?) })
    }

    /// The inverse of [`put_float`].
    #[inline]
    pub fn float(&mut self) -> Result<f64, Corrupt> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back_whatever_follows(
            values in proptest::collection::vec((any::<u64>(), 0..u64::BITS), 0..20),
            cut in 0..20usize,
        ) {
            let values: Vec<u64> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let mut bytes = Vec::new();
            values.iter().for_each(|value| put_uint(&mut bytes, *value));
            let mut reader = Reader::new(&bytes, "numbers");
            for value in &values {
                prop_assert_eq!(reader.uint().unwrap(), *value);
            }
            prop_assert!(reader.is_empty());
            // What is cut off reads as other numbers or as corrupt, and ends.
            let mut reader = Reader::new(&bytes[..cut.min(bytes.len())], "numbers");
            while reader.uint().is_ok() {}
        }
    }

    proptest! {
        #[test]
        fn moments_come_back(second in -99_999_999_999i64..200_000_000_000, nano in -999_999_999..1_000_000_000, keep in 0..10u32) {
            let step = 10i32.pow(keep);
            let time = Timestamp::new(second, nano / step * step).unwrap();
            let mut bytes = Vec::new();
            put_time(&mut bytes, time);
            put_time_option(&mut bytes, Some(time));
            let mut reader = Reader::new(&bytes, "moments");
            prop_assert_eq!(reader.time().unwrap(), time);
            prop_assert_eq!(reader.time_option().unwrap(), Some(time));
            prop_assert!(reader.is_empty());
        }
    }
}
