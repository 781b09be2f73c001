//! The rows behind the sorted files, and how far they have come: a small RocksDB.
//!
//! A row's key is its table's byte and its key there; once assigned, a byte must never be given to another table.

use std::path::PathBuf;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBPinnableSlice, LogLevel, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use touchline_core::codec::{Corrupt, Reader, put_bytes, put_uint};

use super::APPENDED;
use super::encode::{Episode, Latest};
use super::error::{FileError, index_error};
use crate::sink::Cursor;

/// Rows in memory before they become a table file; two of them at most.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Blocks and the indexes of table files in memory. Rows are read again only for tombstones, and to write the files.
const CACHE_BYTES: usize = 16 << 20;
/// Large blocks keep the indexes small and compress well; rows are read in order.
const BLOCK_BYTES: usize = 16 << 10;
/// Read ahead while writing the files.
const READAHEAD_BYTES: usize = 1 << 20;
/// Open table files, well below the usual limit of 1,024 a process.
const OPEN_FILES: i32 = 128;
/// RocksDB's own logs that are kept beside the rows.
const LOG_FILES: usize = 2;
/// Of [`Recorded`] as stored.
const VERSION: u8 = 1;
/// The key of [`Recorded`].
const RECORDED: &[u8] = b"r";

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// [`Episode::order`] → line of `lapses.csv`.
    Episodes = b'e',
    /// Key → fact.
    Facts = b'f',
    /// Key → score.
    Scores = b's',
}

/// How far the directory has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whose output it is.
    pub feed: Vec<u8>,
    /// What is included in the rows and files.
    pub cursor: Option<Cursor>,
    /// Bytes of the appended files.
    pub lengths: [u64; APPENDED.len()],
    /// The first sequences that the appended files do not have.
    pub next: [u64; APPENDED.len()],
}

impl Recorded {
    /// An empty directory of this feed.
    pub fn nothing(feed: &[u8]) -> Recorded {
        Recorded { feed: feed.to_vec(), cursor: None, lengths: [0; APPENDED.len()], next: [0; APPENDED.len()] }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_bytes(&mut out, &self.feed);
        out.push(u8::from(self.cursor.is_some()));
        if let Some(cursor) = &self.cursor {
            put_bytes(&mut out, cursor.as_bytes());
        }
        self.lengths.iter().chain(&self.next).for_each(|number| put_uint(&mut out, *number));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Recorded, Corrupt> {
        let mut reader = Reader::new(bytes, "record of an output directory");
        if reader.byte()? != VERSION {
            return Err(reader.corrupt());
        }
        let feed = reader.bytes()?.to_vec();
        let cursor = if reader.byte()? == 0 { None } else { Some(Cursor::new(reader.bytes()?)) };
        let (mut lengths, mut next) = ([0; APPENDED.len()], [0; APPENDED.len()]);
        for number in lengths.iter_mut().chain(&mut next) {
            *number = reader.uint()?;
        }
        Ok(Recorded { feed, cursor, lengths, next })
    }
}

/// The open database.
pub struct Index {
    path: PathBuf,
    db: DB,
    synced: WriteOptions,
}

impl Index {
    /// Opens or creates it, and keeps others out until dropped.
    pub fn open(path: PathBuf) -> Result<Index, FileError> {
        let db = DB::open(&options(), &path).map_err(|error| index_error("open", &path, error))?;
        let mut synced = WriteOptions::default();
        // The feed forgets what has been acknowledged, so the rows must not be lost with the power.
        synced.set_sync(true);
        Ok(Index { path, db, synced })
    }

    /// What was recorded last; `None` if the directory is new.
    pub fn recorded(&self) -> Result<Option<Recorded>, FileError> {
        let Some(bytes) = self.get(RECORDED)? else { return Ok(None) };
        Recorded::decode(&bytes).map(Some).map_err(|_| FileError::Damaged(self.path.clone()))
    }

    /// Stores rows, and how far they have come, as one.
    pub fn store(&mut self, latest: &Latest<'_>, recorded: &Recorded) -> Result<(), FileError> {
        let mut batch = WriteBatch::default();
        for (&(table, key), &value) in latest {
            let row = row_key(table, key);
            if table == Table::Facts {
                self.store_episode(&mut batch, &row, value)?;
            }
            match value {
                Some(value) => batch.put(row, value),
                None => batch.delete(row),
            }
        }
        batch.put(RECORDED, recorded.encode());
        self.write(batch)
    }

    /// Keeps the episodes in step with the facts. Only a tombstone has to look at the row before it: see [`Episode`].
    fn store_episode(&self, batch: &mut WriteBatch, row: &[u8], value: Option<&[u8]>) -> Result<(), FileError> {
        match value {
            Some(fact) => {
                if let Some(episode) = Episode::of(fact) {
                    batch.put(row_key(Table::Episodes, &episode.order()), episode.line());
                }
            }
            None => {
                let undone = self.get(row)?;
                if let Some(episode) = undone.as_deref().and_then(Episode::of) {
                    batch.delete(row_key(Table::Episodes, &episode.order()));
                }
            }
        }
        Ok(())
    }

    /// Removes all rows and starts over.
    pub fn clear(&mut self, recorded: &Recorded) -> Result<(), FileError> {
        let mut batch = WriteBatch::default();
        batch.delete_range::<&[u8]>(&[0], &[u8::MAX]);
        batch.put(RECORDED, recorded.encode());
        self.write(batch)
    }

    /// Visits the values of a table, in the order of their keys, without holding more than a block of them.
    pub fn each(&self, table: Table, mut visit: impl FnMut(&[u8]) -> Result<(), FileError>) -> Result<(), FileError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([table as u8 + 1]);
        options.set_readahead_size(READAHEAD_BYTES);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek([table as u8]);
        while let Some(value) = rows.value() {
            visit(value)?;
            rows.next();
        }
        rows.status().map_err(|error| index_error("read", &self.path, error))
    }

    fn get(&self, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, FileError> {
        self.db.get_pinned(key).map_err(|error| index_error("read", &self.path, error))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), FileError> {
        self.db.write_opt(batch, &self.synced).map_err(|error| index_error("write", &self.path, error))
    }
}

fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 1);
    row.push(table as u8);
    row.extend_from_slice(key);
    row
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    // In parts, since a whole index does not fit a shard of the cache, and would be read again at every look-up.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_log_level(LogLevel::Warn);
    options
}
