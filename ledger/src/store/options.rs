//! Keeps how RocksDB is tuned, each setting with its reason.
//!
//! Invariants: `atomic_flush` stays on, for derived families are written without the WAL and must be flushed together
//! with the height that they belong to; nothing here changes what is stored, only what storing it costs.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompactionStyle, DBCompressionType, DBRecoveryMode, LogLevel,
    Options,
};

use super::record::Family;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for blocks of tables, bytes.
    pub block_cache: usize,
    /// Memory for what is not yet in a table, bytes, over all families.
    pub write_buffers: usize,
    /// When the write-ahead log reaches this many bytes, all families are flushed: bounds the replay after a crash.
    pub max_wal: u64,
    /// Most files that are kept open.
    pub max_open_files: i32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            block_cache: 256 * MIB,
            write_buffers: 192 * MIB,
            max_wal: 256 * 1024 * 1024,
            max_open_files: 2048,
        }
    }
}

/// Options of the whole database. Its text log goes to `log_dir` where that is given.
pub(super) fn database(options: &StoreOptions, log_dir: Option<&Path>) -> Options {
    let mut database = Options::default();
    database.set_atomic_flush(true);
    // After a crash, the log ends at its last whole record: what is torn was never acknowledged. Should the disk lose
    // what it had acknowledged, nothing here notices: the node opens with a shorter log. A log file that was closed and
    // is missing, or shorter than MANIFEST says, is an error; of the one in use MANIFEST knows nothing.
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_max_total_wal_size(options.max_wal);
    database.set_db_write_buffer_size(options.write_buffers);
    database.set_max_open_files(options.max_open_files);
    database.set_max_background_jobs(2);
    // Writes back table files evenly instead of in one burst that a synced write would wait for.
    database.set_bytes_per_sync(1024 * 1024);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(8 * MIB);
    database.set_log_level(LogLevel::Warn);
    if let Some(dir) = log_dir {
        database.set_db_log_dir(dir);
    }
    database
}

/// Every family with its options.
pub(super) fn families(options: &StoreOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache);
    let describe = |family: Family| ColumnFamilyDescriptor::new(family.name(), self::family(family, options, &cache));
    Family::ALL.into_iter().map(describe).collect()
}

fn family(family: Family, options: &StoreOptions, cache: &Cache) -> Options {
    let mut settings = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    // Blocks are written once, in order: there is nothing to merge. And a table that rots is then read by nobody but
    // readers, who get the block from a peer; a merge that meets it would end every write for good.
    let is_log = matches!(family, Family::Headers | Family::Bodies);
    settings.set_disable_auto_compactions(is_log);
    table.set_pin_l0_filter_and_index_blocks_in_cache(!is_log);
    table.set_format_version(6);
    table.set_block_size(8 * KIB);
    // `db_write_buffer_size` decides when to flush; no single family does so much earlier.
    settings.set_write_buffer_size(options.write_buffers);
    settings.set_level_compaction_dynamic_level_bytes(true);
    settings.set_max_bytes_for_level_base(u64::try_from(options.write_buffers).unwrap_or(u64::MAX));
    settings.set_target_file_size_base(32 * 1024 * 1024);
    settings.set_compression_type(DBCompressionType::Lz4);
    match family {
        Family::State => {
            ask_filters_first(&mut settings, &mut table);
            blobs(&mut settings, 128, cache);
            // What was overwritten is given back when half of the oldest files is.
            settings.set_enable_blob_gc(true);
            settings.set_blob_gc_age_cutoff(0.25);
            settings.set_blob_gc_force_threshold(0.5);
        }
        Family::Transactions | Family::Recent => ask_filters_first(&mut settings, &mut table),
        Family::Bodies => blobs(&mut settings, 4 * 1024, cache),
        Family::Meta | Family::Headers | Family::Certificates | Family::Results | Family::History => {}
    }
    // Keys in no order of time: merging many runs at once rewrites each record less often than levels do.
    if matches!(family, Family::State | Family::Transactions | Family::History) {
        settings.set_compaction_style(DBCompactionStyle::Universal);
    }
    // Ids are random bytes.
    if matches!(family, Family::Transactions | Family::Recent) {
        settings.set_compression_type(DBCompressionType::None);
    }
    settings.set_block_based_table_factory(&table);
    settings
}

/// For what is mostly asked for in vain: a new key, an id that was never seen. In memory as in tables.
fn ask_filters_first(settings: &mut Options, table: &mut BlockBasedOptions) {
    table.set_bloom_filter(10.0, false);
    settings.set_memtable_whole_key_filtering(true);
    // A transaction takes about 700 bytes of memory over all families: so about 11 bits for each key.
    settings.set_memtable_prefix_bloom_ratio(0.002);
}

/// Puts values of `from` bytes and more aside, once: compaction then moves only their addresses.
fn blobs(settings: &mut Options, from: u64, cache: &Cache) {
    settings.set_enable_blob_files(true);
    settings.set_min_blob_size(from);
    settings.set_blob_compression_type(DBCompressionType::Lz4);
    settings.set_blob_file_size(64 * 1024 * 1024);
    settings.set_blob_cache(cache);
}
