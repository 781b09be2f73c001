//! How RocksDB is set up, and how one setting of memory is divided.
//!
//! The load: point reads and rewrites of a packed record (some hundred bytes to a few kilobytes) at random over millions of
//! keys, short ordered scans (timers, pages), in batches from one thread. What reads cost decides: a get that has to fetch
//! a filter or an index from the disk, or to decompress much for one record, costs more than all else an event needs.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, DataBlockIndexType, LogLevel,
    Options, WriteBufferManager,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Less memory than this leaves no room for the upper levels' metadata, and every event pays for it.
pub const MEMORY_MIN: usize = 64 * MIB;

/// The memory of all stores of a process: one number of bytes, divided.
///
/// Five eighths go to records, because finding a contact there costs neither a search nor a decompression, and it is kept
/// there in a third of what its block would take. The rest is the block cache, into which the write buffers, up to a quarter
/// of all, are charged. What a batch holds until its commit comes on top and is bounded by the worker.
#[derive(Clone)]
pub struct Memory {
    blocks: Cache,
    write_buffers: WriteBufferManager,
    records: usize,
    stores: usize,
    write_buffer: usize,
}

impl Memory {
    /// Divides `bytes` (at least [`MEMORY_MIN`]) for `stores` stores. Blocks and write buffers are shared; each store has its
    /// own records.
    pub fn new(bytes: usize, stores: usize) -> Memory {
        let bytes = bytes.max(MEMORY_MIN);
        let records = bytes / 8 * 5;
        // HyperClock: reads don't take a lock. Without an estimated entry size it grows its own table; blocks, index
        // partitions and what write buffers are charged differ too much in size for a good estimate.
        let blocks = Cache::new_hyper_clock_cache(bytes - records, 0);
        let buffers = bytes / 4;
        Memory {
            // `allow_stall` off: a stall would hold the commit of one store until another, idle one is flushed.
            write_buffers: WriteBufferManager::new_write_buffer_manager_with_cache(buffers, false, blocks.clone()),
            blocks,
            records,
            stores: stores.max(1),
            // One fills up while others are written out. The larger, the more rewrites of a record end in it, and the less
            // there is to compact: with half of this, an event costs an eighth more. Above 64 MiB its own search gets slow.
            write_buffer: (buffers / 4).clamp(4 * MIB, 64 * MIB),
        }
    }

    /// For the contacts and for the accounts of one store.
    pub(crate) fn records(&self) -> (usize, usize) {
        self.share(self.stores)
    }

    /// The same, of one of so many stores.
    pub(crate) fn share(&self, stores: usize) -> (usize, usize) {
        let own = self.records / stores.max(1);
        // There are fewer accounts than contacts by a factor of ten and more.
        (own - own / 8, own / 8)
    }

    /// The options of one store.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&self.tables());
        options.set_write_buffer_manager(&self.write_buffers);
        self.write_path(&mut options);
        levels(&mut options);
        files(&mut options);
        options
    }

    fn tables(&self) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&self.blocks);
        // One read fetches and decompresses one block for one record: small ones. A record that is larger has its own.
        tables.set_block_size(4 * KIB);
        // Whole filters and indexes are megabytes each. They don't fit a shard of the cache, or push everything else out of it,
        // and are read again at every get: 5.8 thousand events a second. In partitions of 4 KiB they are cached like data.
        tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        tables.set_partition_filters(true);
        tables.set_metadata_block_size(4 * KIB);
        tables.set_cache_index_and_filter_blocks(true);
        // The index of the partitions is small and needed by every get.
        tables.set_pin_top_level_index_and_filter(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // 1 % false positives. Ribbon filters would save a third of some megabytes and cost every compaction more.
        tables.set_bloom_filter(10.0, false);
        tables.set_optimize_filters_for_memory(true);
        // In a block, a hash leads to a restart point, and from there each record is looked at in turn: four, not all.
        tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        tables.set_block_restart_interval(4);
        tables
    }

    fn write_path(&self, options: &mut Options) {
        options.set_write_buffer_size(self.write_buffer);
        options.set_max_write_buffer_number(4);
        // Most gets ask for what is in no memtable: a filter over a twentieth of it saves them the search.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.05);
        // One thread writes to a store; nobody to share a memtable with.
        options.set_allow_concurrent_memtable_write(false);
        // A flush and a compaction; the other cores are for workers and sinks.
        options.set_max_background_jobs(2);
        // The kernel writes what is due all along instead of a burst at every close of a file.
        options.set_bytes_per_sync(MIB as u64);
        // What was applied once must not be rolled back, as sinks have seen it: a torn tail is dropped (its write never
        // returned), damage before it is an error. The default would go on from the last good record before the damage.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    }
}

fn levels(options: &mut Options) {
    // The last level holds nearly all and the levels above a ninth of it, whatever the size of the state.
    options.set_level_compaction_dynamic_level_bytes(true);
    // Each merge of level 0 rewrites a good part of the state: twice as much at a time is half as often. A get that has to look
    // into more files is rare behind the cache of records.
    options.set_level_zero_file_num_compaction_trigger(8);
    // What level 0 has when it is merged into it.
    options.set_max_bytes_for_level_base(512 * MIB as u64);
    // 10 GB of state are some 160 files.
    options.set_target_file_size_base(64 * MIB as u64);
    // A file in the first two levels is rewritten within minutes: compressing it costs more than it saves. Below, lz4
    // halves what has to be read and cached by the kernel. zstd at the bottom saves another tenth of the disk, as records are
    // packed already, and is several times slower at each of the reads that make up the load.
    let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
    options.set_compression_per_level(&[none, none, lz4, lz4, lz4, lz4, lz4]);
    options.set_bottommost_compression_type(lz4);
}

fn files(options: &mut Options) {
    // Table readers hold memory and file descriptors (often limited to 1,024 for a process); this many is 16 GB of state.
    options.set_max_open_files(256);
    // RocksDB's own log is for its developers: warnings only, and not for ever.
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 * MIB);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    // It names the first and the last key of each file, also of files that are gone: people among them who have been
    // forgotten. So it is written anew as soon as RocksDB lets it, which is when it has grown to some times what it needs.
    options.set_max_manifest_file_size(1);
}
