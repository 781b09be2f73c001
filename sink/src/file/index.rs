//! The rows behind the sorted files, and how far they have come: a small RocksDB.
//!
//! A row's key is its table's byte and its key there; once assigned, a byte must never be given to another table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType,
    DBPinnableSlice, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};
use touchline_core::codec::{Corrupt, Reader, put_bytes, put_uint};

use super::APPENDED;
use super::encode::{Episode, Latest};
use super::error::{FileError, index_error};
use crate::sink::{Cursor, Lane};

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
const VERSION: u8 = 2;
/// One with a single lane: the feed's number names it.
const VERSION_OF_ONE_LANE: u8 = 1;
/// The key of [`Recorded`], its lanes apart.
const RECORDED: &[u8] = b"r";
/// Rows of an erased contact have been deleted, and are still in files of the database.
const SCRUB: &[u8] = b"x";
/// In front of a lane's name → [`Place`].
const LANE: u8 = b'l';

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
    /// Bytes of the appended files.
    pub lengths: [u64; APPENDED.len()],
    /// What is included in the rows and files, of each lane.
    pub lanes: BTreeMap<Lane, Place>,
}

/// How far the directory has come in a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What is included.
    pub cursor: Option<Cursor>,
    /// The first sequences that the appended files do not have.
    pub next: [u64; APPENDED.len()],
}

impl Place {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.cursor.is_some()));
        if let Some(cursor) = &self.cursor {
            put_bytes(out, cursor.as_bytes());
        }
        self.next.iter().for_each(|number| put_uint(out, *number));
    }

    fn decode(bytes: &[u8]) -> Result<Place, Corrupt> {
        let mut reader = Reader::new(bytes, "record of an output directory");
        let cursor = read_cursor(&mut reader)?;
        Ok(Place { cursor, next: read_numbers(&mut reader)? })
    }
}

impl Recorded {
    /// An empty directory of this feed.
    pub fn nothing(feed: &[u8]) -> Recorded {
        Recorded { feed: feed.to_vec(), lengths: [0; APPENDED.len()], lanes: BTreeMap::new() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_bytes(&mut out, &self.feed);
        self.lengths.iter().for_each(|number| put_uint(&mut out, *number));
        out
    }

    /// What was encoded, without the lanes unless it is of the form that had them in it.
    fn decode(bytes: &[u8]) -> Result<Recorded, Corrupt> {
        let mut reader = Reader::new(bytes, "record of an output directory");
        match reader.byte()? {
            VERSION => {
                let feed = reader.bytes()?.to_vec();
                Ok(Recorded { feed, lengths: read_numbers(&mut reader)?, lanes: BTreeMap::new() })
            }
            VERSION_OF_ONE_LANE => {
                let feed = reader.bytes()?.to_vec();
                let cursor = read_cursor(&mut reader)?;
                let (lengths, next) = (read_numbers(&mut reader)?, read_numbers(&mut reader)?);
                let number: String = feed.iter().map(|byte| format!("{byte:02x}")).collect();
                let lanes = [(Lane::new(format!("outbox/{number}")), Place { cursor, next })].into();
                Ok(Recorded { feed, lengths, lanes })
            }
            _ => Err(reader.corrupt()),
        }
    }
}

fn read_cursor(reader: &mut Reader<'_>) -> Result<Option<Cursor>, Corrupt> {
    Ok(if reader.byte()? == 0 { None } else { Some(Cursor::new(reader.bytes()?)) })
}

fn read_numbers(reader: &mut Reader<'_>) -> Result<[u64; APPENDED.len()], Corrupt> {
    let mut numbers = [0; APPENDED.len()];
    for number in &mut numbers {
        *number = reader.uint()?;
    }
    Ok(numbers)
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
        let damaged = |_| FileError::Damaged(self.path.clone());
        let mut recorded = Recorded::decode(&bytes).map_err(damaged)?;
        self.scan(LANE, |key, value| {
            let name = str::from_utf8(key).map_err(|_| FileError::Damaged(self.path.clone()))?;
            recorded.lanes.insert(Lane::new(name), Place::decode(value).map_err(damaged)?);
            Ok(())
        })?;
        Ok(Some(recorded))
    }

    /// Stores rows of a lane, and how far it has come, as one.
    pub fn store(
        &mut self,
        latest: &Latest<'_>,
        lane: &Lane,
        recorded: &Recorded,
        is_erasing: bool,
    ) -> Result<(), FileError> {
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
        put_recorded(&mut batch, recorded, recorded.lanes.get_key_value(lane));
        if is_erasing {
            batch.put(SCRUB, []);
        }
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

    /// Writes all files of the database anew if rows of an erased contact have been deleted: until then they hold them.
    pub fn scrub(&self) -> Result<(), FileError> {
        if self.get(SCRUB)?.is_none() {
            return Ok(());
        }
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt::<&[u8], &[u8]>(None, None, &options);
        let mut batch = WriteBatch::default();
        batch.delete(SCRUB);
        self.write(batch)
    }

    /// Removes all rows and starts over.
    pub fn clear(&mut self, recorded: &Recorded) -> Result<(), FileError> {
        let mut batch = WriteBatch::default();
        batch.delete_range::<&[u8]>(&[0], &[u8::MAX]);
        put_recorded(&mut batch, recorded, &recorded.lanes);
        self.write(batch)
    }

    /// Visits the values of a table, in the order of their keys, without holding more than a block of them.
    pub fn each(&self, table: Table, mut visit: impl FnMut(&[u8]) -> Result<(), FileError>) -> Result<(), FileError> {
        self.scan(table as u8, |_, value| visit(value))
    }

    /// Visits the rows behind a byte: their keys without it, and their values.
    fn scan(&self, first: u8, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), FileError>) -> Result<(), FileError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([first + 1]);
        options.set_readahead_size(READAHEAD_BYTES);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek([first]);
        while let Some((key, value)) = rows.item() {
            visit(key.get(1..).unwrap_or_default(), value)?;
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

fn put_recorded<'a>(
    batch: &mut WriteBatch,
    recorded: &Recorded,
    lanes: impl IntoIterator<Item = (&'a Lane, &'a Place)>,
) {
    batch.put(RECORDED, recorded.encode());
    for (lane, place) in lanes {
        let mut value = Vec::new();
        place.encode(&mut value);
        batch.put([&[LANE], lane.as_str().as_bytes()].concat(), value);
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
    // It names the first and the last key of each file, also of files that are gone; so as little as can be is kept of it.
    options.set_max_manifest_file_size(1);
    options
}
