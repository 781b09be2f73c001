//! A list that grows at its end: the last item is at hand, and those before it stay packed until somebody asks for them,
//! because a record is loaded and stored far more often than it is looked through.

use std::marker::PhantomData;

use crate::codec::{Corrupt, Reader, put_bytes};

/// What such a list is of.
pub(crate) trait Item: Copy {
    /// Names the list when it is damaged.
    const WHAT: &'static str;

    /// Appends the item to its packed predecessors.
    fn put(self, out: &mut Vec<u8>);

    /// Reads what [`Item::put`] wrote.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Corrupt>;
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail<T> {
    /// All but the last, packed one behind the other.
    older: Vec<u8>,
    last: Option<T>,
}

impl<T> Default for Tail<T> {
    fn default() -> Tail<T> {
        Tail { older: Vec::new(), last: None }
    }
}

impl<T: Item> Tail<T> {
    /// The last item.
    pub fn last(&self) -> Option<T> {
        self.last
    }

    /// Puts an item in the place of the last.
    pub fn replace_last(&mut self, item: T) {
        self.last = Some(item);
    }

    /// Adds an item behind the last.
    pub fn push(&mut self, item: T) {
        if let Some(last) = self.last.replace(item) {
            last.put(&mut self.older);
        }
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, Corrupt>> {
        let older = Older { reader: Reader::new(&self.older, T::WHAT), of: PhantomData };
        older.chain(self.last.map(Ok))
    }

    /// All items, to be changed anywhere.
    pub fn to_vec(&self) -> Result<Vec<T>, Corrupt> {
        self.iter().collect()
    }

    /// Appends the list to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.older);
        out.push(u8::from(self.last.is_some()));
        if let Some(last) = self.last {
            last.put(out);
        }
    }

    /// Reads what [`Tail::encode`] wrote; all but the last item are read when they are asked for.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Tail<T>, Corrupt> {
        let older = reader.bytes()?.to_vec();
        Ok(Tail { older, last: if reader.byte()? == 0 { None } else { Some(T::read(reader)?) } })
    }
}

impl<T: Item> FromIterator<T> for Tail<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Tail<T> {
        let mut tail = Tail::default();
        items.into_iter().for_each(|item| tail.push(item));
        tail
    }
}

struct Older<'a, T> {
    reader: Reader<'a>,
    of: PhantomData<T>,
}

impl<T: Item> Iterator for Older<'_, T> {
    type Item = Result<T, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let item = T::read(&mut self.reader);
        if item.is_err() {
            // What follows cannot be told from the damage.
            self.reader = Reader::new(&[], T::WHAT);
        }
        Some(item)
    }
}
