//! What a step costs, measured before the first.

use crate::blocks::BlockTable;
use crate::step_cost::{Measured, StepBudget, StepCost};
use crate::{BLOCK_LEN, Engine, Error, PrefixCache};
use trine_model::runner::Want;

impl Engine {
    /// Measures what steps cost, which [`EngineOptions::itl_target`](crate::EngineOptions::itl_target) is kept by, and which each step
    /// corrects. It takes as long as a prompt of some 100 tokens. The first step does it, if it has not been done; an engine for one sequence at a time needs none.
    ///
    /// # Errors
    /// When the device fails.
    pub fn calibrate(&mut self) -> Result<(), Error> {
        let room = self.scheduler.blocks.least();
        // After a device that failed, sequences may have blocks.
        let begins = self.scheduler.budget.is_none() && self.scheduler.running.is_empty();
        let needed = begins && self.options.max_sequences.min(room) > 1;
        let Some(target) = self.options.itl_target.filter(|_| needed) else { return Ok(()) };
        // Beside a prompt of 64 tokens, if there is room for both.
        let rows = self.options.max_sequences.min(8).min(room.saturating_sub(64 / BLOCK_LEN).max(1));
        let most = self.context.min((room - rows) * BLOCK_LEN);
        let deepest = self.context.min(self.scheduler.blocks.len() * BLOCK_LEN) - 1;
        let (depth, short, long) = (1024.min(deepest), 16.min(most), 64.min(most));
        // Sequences of one token each, and one of several, after so many tokens. Nobody else uses a block.
        let mut seconds = |rows: usize, cached: usize, tokens: usize| {
            self.batch.clear();
            let (blocks, mut tables) = (&mut self.scheduler.blocks, Vec::new());
            for tokens in std::iter::repeat_n(1, rows).chain((tokens > 0).then_some(tokens)) {
                let mut table = BlockTable::new(0, 0, &PrefixCache::Off);
                blocks.slide(&mut table, cached, 0);
                assert!(blocks.grow(&mut table, cached + tokens, cached + tokens), "room for all of them");
                table.push(&mut self.batch, &vec![0; tokens], cached, 1);
                tables.push(table);
            }
            tables.iter_mut().for_each(|table| blocks.release(table));
            let start = self.clock.now();
            self.runner.forward(self.cache, &self.batch, Want::Logits, &mut self.output)?;
            Ok::<f64, trine_model::Error>((self.clock.now() - start).as_secs_f64())
        };
        // The first is slower than others: weights come from the disk.
        seconds(1, 0, 0)?;
        let (one, many, deep) = (seconds(1, 0, 0)?, seconds(rows, 0, 0)?, seconds(1, depth, 0)?);
        let (with_short, with_long) = (seconds(rows, 0, short)?, seconds(rows, 0, long)?);
        let cost = StepCost::fit(Measured {
            one,
            many: (rows, many),
            deep: (depth, deep),
            short: (short, with_short),
            long: (long, with_long),
        });
        self.scheduler.budget = Some(StepBudget::new(target.as_secs_f64(), cost));
        Ok(())
    }
}
