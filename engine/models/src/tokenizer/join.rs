//! Joining neighbours, best first, until no two of them make a token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use engine_core::TokenId;

/// A stretch of text that is, or is not yet, a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) bytes: Range<usize>,
    pub(super) token: Option<TokenId>,
}

impl Symbol {
    pub(super) const fn new(bytes: Range<usize>, token: TokenId) -> Self {
        Self {
            bytes,
            token: Some(token),
        }
    }
}

/// How good a join is: the lowest first.
pub(super) type Rank = i64;

#[derive(Debug)]
struct Node {
    symbol: Symbol,
    previous: Option<usize>,
    next: Option<usize>,
    is_gone: bool,
}

/// Joins neighbours as long as `find` knows a token for two of them; of equal ranks the leftmost is first. Takes time
/// in proportion to n·log n, because Gemma's texts are one word however long.
pub(super) fn join(
    symbols: Vec<Symbol>,
    find: impl Fn(&Symbol, &Symbol) -> Option<(Rank, TokenId)>,
) -> impl Iterator<Item = Symbol> {
    let count = symbols.len();
    let node = |(index, symbol): (usize, Symbol)| Node {
        symbol,
        previous: index.checked_sub(1),
        next: Some(index + 1).filter(|next| *next < count),
        is_gone: false,
    };
    let mut nodes: Vec<Node> = symbols.into_iter().enumerate().map(node).collect();
    let mut queue = BinaryHeap::new();
    let offer = |nodes: &[Node], left: usize, queue: &mut BinaryHeap<_>| {
        let Some(right) = nodes[left].next else {
            return;
        };
        let (first, second) = (&nodes[left].symbol, &nodes[right].symbol);
        if let Some((rank, token)) = find(first, second) {
            queue.push(Reverse((
                rank,
                left,
                first.bytes.end,
                second.bytes.end,
                token,
            )));
        }
    };
    for left in 0..count {
        offer(&nodes, left, &mut queue);
    }
    while let Some(Reverse((_, left, middle, end, token))) = queue.pop() {
        let Some(right) = nodes[left].next else {
            continue;
        };
        // The offer is stale if either side has been joined with another neighbour since.
        if nodes[left].is_gone
            || nodes[left].symbol.bytes.end != middle
            || nodes[right].symbol.bytes.end != end
        {
            continue;
        }
        nodes[right].is_gone = true;
        let next = nodes[right].next;
        nodes[left].next = next;
        nodes[left].symbol = Symbol {
            bytes: nodes[left].symbol.bytes.start..end,
            token: Some(token),
        };
        if let Some(next) = next {
            nodes[next].previous = Some(left);
        }
        offer(&nodes, left, &mut queue);
        if let Some(previous) = nodes[left].previous {
            offer(&nodes, previous, &mut queue);
        }
    }
    nodes
        .into_iter()
        .filter(|node| !node.is_gone)
        .map(|node| node.symbol)
}
