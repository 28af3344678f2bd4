//! The machine's memory: how fast some threads read what no cache holds.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

const BYTES: usize = 512 << 20;
const ROUNDS: usize = 8;
/// Words that are read independently of each other, so that the processor never waits for a sum.
const LANES: usize = 32;

/// The best of some rounds, in bytes a second.
pub(crate) fn measure(threads: usize) -> f64 {
    let memory: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let part = memory.len() / threads.max(1);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        thread::scope(|scope| {
            for words in memory.chunks_exact(part) {
                scope.spawn(|| black_box(read(words)));
            }
        });
        best = best.min(begin.elapsed());
    }
    BYTES as f64 / best.as_secs_f64()
}

fn read(words: &[u64]) -> u64 {
    let mut sums = [0_u64; LANES];
    for line in words.chunks_exact(LANES) {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum ^= word;
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

#[cfg(test)]
mod tests {
    use super::{LANES, read};

    #[test]
    fn every_word_is_read() {
        let mut words = vec![0; LANES * 3];
        for place in 0..words.len() {
            words[place] = 1 << (place % 64);
            assert_eq!(read(&words), words[place], "word {place}");
            words[place] = 0;
        }
    }
}
