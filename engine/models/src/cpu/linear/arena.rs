//! Memory for packed weights: one mapping for all matrices of a model, in huge pages where the system has them.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;

/// A cache line: sections begin at multiples of it.
const LINE: usize = 64;

/// A part of an arena.
#[derive(Clone)]
pub(super) struct Section {
    memory: Arc<MmapMut>,
    range: Range<usize>,
}

impl fmt::Debug for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory: _, range } = self;
        formatter.debug_tuple("Section").field(range).finish()
    }
}

impl Section {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.range.clone()]
    }
}

/// Zeroed memory that is being filled.
pub(super) struct Arena {
    memory: MmapMut,
    ranges: Vec<Range<usize>>,
}

impl Arena {
    /// Room for sections of these sizes, one behind the other.
    pub(super) fn new(sizes: &[usize]) -> io::Result<Self> {
        let mut end = 0_usize;
        let ranges: Vec<_> = sizes
            .iter()
            .map(|size| {
                let start = end.next_multiple_of(LINE);
                end = start + size;
                start..end
            })
            .collect();
        let memory = MmapMut::map_anon(end.max(1))?;
        #[cfg(target_os = "linux")]
        // A system without huge pages refuses; ordinary ones do.
        drop(memory.advise(memmap2::Advice::HugePage));
        Ok(Self { memory, ranges })
    }

    /// The memory, and where each section is.
    pub(super) fn parts(&mut self) -> (&mut [u8], &[Range<usize>]) {
        (&mut self.memory, &self.ranges)
    }

    /// The filled sections.
    pub(super) fn finish(self) -> Vec<Section> {
        let memory = Arc::new(self.memory);
        let section = |range| Section {
            memory: Arc::clone(&memory),
            range,
        };
        self.ranges.into_iter().map(section).collect()
    }
}
