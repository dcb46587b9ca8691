//! What an engine does with its disk cache.

use crate::blocks::BlockTable;
use crate::disk_cache::{DiskCache, Part};
use crate::sequence::Sequence;
use crate::{BLOCK_LEN, Engine};
use std::time::Duration;
use trine_backend::CacheType;
use trine_model::Runner;

/// What the bytes of a cache block depend on beside the model's file.
pub(crate) fn layout(runner: &dyn Runner, cache_type: CacheType) -> String {
    let (shape, spec) = (runner.kv_shape(1.into(), cache_type), runner.spec());
    // Other rotations come with another context, where the model has LongRoPE.
    format!("{shape:?} {:?}", spec.ropes)
}

impl Engine {
    /// Orders what the disk has of a new sequence's prompt and the cache has not.
    pub(crate) fn order(&mut self, sequence: &mut Sequence) {
        if let Some(disk) = &self.disk {
            let known = &sequence.tokens[..sequence.reusable()];
            let (first, missing) = self.scheduler.blocks.missing(&mut sequence.table, known);
            sequence.loading = disk.order(sequence.id, first, &missing);
        }
    }

    /// Orders what the disk has of a preempted sequence that is to go on: reading it takes less time than computing it.
    pub(crate) fn order_preempted(&mut self, now: Duration) {
        if self.disk.is_some()
            && let Some((at, mut sequence)) = self.scheduler.take_returning(now)
        {
            sequence.preempted = false;
            self.order(&mut sequence);
            self.scheduler.waiting.insert(at, sequence);
        }
    }

    /// Puts what was read from the disk into the cache, where sequences find it. Waits for it if there is nothing else to do.
    pub(crate) fn restore(&mut self) {
        if self.disk.is_none() {
            return;
        }
        let waits = |sequence: &Sequence| sequence.loading && !sequence.paused;
        let idle = self.scheduler.running.iter().all(|sequence| sequence.paused)
            && self.scheduler.waiting.iter().all(|sequence| sequence.loading || sequence.paused);
        let mut wait = idle && self.scheduler.waiting.iter().any(waits);
        while let Some(disk) = &self.disk {
            match disk.part(wait) {
                Some(part) => self.adopt(part),
                None if wait => {
                    // The thread has ended: everything is computed.
                    self.close_disk_cache();
                }
                None => return,
            }
            wait = false;
        }
    }

    /// Writes blocks to cache blocks that are free, as far as there are any.
    fn adopt(&mut self, part: Part) {
        let Engine { scheduler, runner, cache, .. } = self;
        let Some(sequence) = scheduler.waiting.iter_mut().find(|sequence| sequence.id == part.sequence) else { return };
        sequence.loading &= !part.last;
        let (mut table, blocks) = (BlockTable::like(&sequence.table), &mut scheduler.blocks);
        let known = blocks.match_prefix(&mut table, &sequence.tokens[..sequence.reusable()]) / BLOCK_LEN;
        // Blocks before them may have given way meanwhile.
        if let Some(first) = known.checked_sub(part.first) {
            for (bytes, i) in part.blocks().skip(first).zip(known..) {
                let end = (i + 1) * BLOCK_LEN;
                if !blocks.grow(&mut table, end, end) {
                    break;
                }
                runner.write_block(*cache, table.block(i), bytes);
                blocks.publish(&mut table, &sequence.tokens[..end]);
                blocks.slide(&mut table, end, end);
                blocks.stats.loaded += BLOCK_LEN as u64;
            }
        }
        blocks.release(&mut table);
    }

    /// Gives the disk cache the blocks that the last step filled.
    pub(crate) fn persist(&mut self) {
        let Engine { scheduler, runner, cache, disk, .. } = self;
        let (Some(disk), Some(published)) = (disk, &mut scheduler.blocks.published) else { return };
        for (block, identity, depth) in published.drain(..) {
            let mut bytes = Vec::new();
            // A device that failed tells so in the next pass.
            if disk.wants(&identity) && runner.read_block(*cache, block, &mut bytes).is_ok() {
                disk.save(&identity, depth, bytes);
            }
        }
    }

    /// Waits until keys and values are on disk, and leaves them there. Returns why some are not, such as a full disk: requests were answered
    /// all the same. An engine that is dropped waits, too.
    pub fn close_disk_cache(&mut self) -> Option<String> {
        self.scheduler.blocks.published = None;
        self.scheduler.waiting.iter_mut().for_each(|sequence| sequence.loading = false);
        self.disk.take().and_then(DiskCache::close)
    }
}
