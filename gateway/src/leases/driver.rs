//! What replicas do for a pool: ask its owner, decide as its owner, and tell what they hold.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use protocol::snapshot::OnPartition;
use tokio_util::sync::CancellationToken;

use super::{
    book::Part,
    fleet::{Fleet, Unreachable},
    message::{Answer, Grant, Letter, Message, Term, What},
    owner::Decision,
    pool::Pool,
};
use crate::limits::{Capacity, Shortage};

/// How long an owner may take to answer, with all whom it has to ask first.
const OWNER_LIMIT: Duration = Duration::from_secs(4);
/// How long a replica may take to tell what it knows of all pools.
const TELL_LIMIT: Duration = Duration::from_secs(4);
/// How long a replica may take to answer an owner.
const PEER_LIMIT: Duration = Duration::from_secs(1);
/// Questions to one replica before another one is asked.
const TRIES_MAX: usize = 8;
/// The longest pause between them: two that ask each other must not go on in step.
const PAUSE_MAX: Duration = Duration::from_millis(8);
/// How often replicas tell what they hold and do not use.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Reports of one interval.
const REPORTS_MAX: usize = 1024;

/// Why an owner cannot decide.
enum Undecided {
    /// A newer term has begun.
    Again,
    /// It reaches no majority.
    Alone,
}

impl From<Undecided> for Answer {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Again => Self::Again,
            Undecided::Alone => Self::Alone,
        }
    }
}

/// Tells owners what is held and not used, until shutdown; then gives it all back.
pub(crate) async fn keep(fleet: Arc<Fleet>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(REPORT_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = looks.tick() => {}
        }
        if fleet.is_shared() && fleet.settle().await {
            fleet.report(false).await;
        }
    }
    if fleet.is_shared() {
        fleet.report(true).await;
    }
}

impl Fleet {
    /// Learns what this replica knew before it started; whether it does.
    ///
    /// What a majority knew, this replica among them, one of the others still knows. So it hears from all of them, or
    /// from so many that one of any such majority is there, and until then it promises nothing and remembers nothing.
    pub(super) async fn settle(&self) -> bool {
        if self.is_settled.load(Ordering::Acquire) {
            return true;
        }
        let Ok(_turn) = self.settling.acquire().await else {
            return false;
        };
        if self.is_settled.load(Ordering::Acquire) {
            return true;
        }
        let list = self.list();
        let others = list.replicas.iter().filter(|peer| peer.name != self.me);
        let asked = others.map(|peer| self.call(peer, &Letter::Tell, TELL_LIMIT));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (count, mut told, mut told_all) = (asked.len(), 0, 0);
        while let Some(answer) = asked.next().await {
            if let Ok(Answer::Told { is_settled, tales }) = answer {
                told += 1;
                told_all += usize::from(is_settled);
                tales.into_iter().for_each(|tale| self.hear_of(tale));
            }
        }
        let enough = list.replicas.len() + 1 - self.majority().min(list.replicas.len());
        let is_settled = told == count || enough <= told_all;
        self.is_settled.store(is_settled, Ordering::Release);
        is_settled
    }

    /// Asks for what a request lacks.
    pub(crate) async fn relieve(&self, shortage: Shortage) {
        let Shortage {
            pool,
            capacity,
            amount,
        } = shortage;
        self.fill(&pool, capacity, amount).await;
    }

    /// Asks for what an amount needs besides what is held. When this returns, it can be reserved, or it is known why not.
    pub(super) async fn fill(&self, pool: &Arc<Pool>, capacity: Capacity, amount: u64) {
        // Closed never.
        let Ok(_turn) = pool.asking.acquire().await else {
            return;
        };
        if pool.is_short(capacity, amount, self.outside.now()) {
            self.ask(pool, capacity, Some(amount)).await;
        }
    }

    /// Tells what is held and not used; all of it if this replica ends.
    pub(super) async fn report(&self, ends: bool) {
        let now = self.outside.now();
        let mut reports = 0;
        for (pool, capacity) in self.pools() {
            let should = pool.should_report(capacity, now);
            if (should || ends) && reports < REPORTS_MAX {
                reports += 1;
                let Ok(_turn) = pool.asking.acquire().await else {
                    return;
                };
                self.ask(&pool, capacity, None).await;
            }
        }
    }

    /// Asks for an amount, or reports: whoever owns the pool, or takes its place.
    async fn ask(&self, pool: &Arc<Pool>, capacity: Capacity, amount: Option<u64>) {
        let owners = match self.settle().await {
            true => self.ranking(&pool.id),
            false => Vec::new(),
        };
        'owners: for owner in owners {
            for attempt in 0..TRIES_MAX {
                let answer = if owner.name == self.me {
                    Ok(self.decide_own(pool, capacity, amount).await)
                } else {
                    let message = pool.ask(capacity, amount, self.outside.now());
                    self.call(&owner, &Letter::About(message), OWNER_LIMIT)
                        .await
                };
                let now = self.outside.now();
                match answer {
                    Ok(Answer::Granted(grant)) => return pool.granted(capacity, &grant, now),
                    Ok(Answer::Refused(denial)) => return pool.refused(capacity, &denial, now),
                    Ok(Answer::Outdated { stamp }) => pool.overtake(stamp),
                    Ok(Answer::Again | Answer::Fenced { .. }) => {}
                    // Whoever is next may reach more of them.
                    Ok(_) | Err(Unreachable) => continue 'owners,
                }
                if 0 < attempt {
                    self.outside.pause(PAUSE_MAX).await;
                }
            }
        }
        let list = self.list();
        let replicas = match list.on_partition {
            OnPartition::LocalShare => Some(list.replicas.len()),
            OnPartition::Refuse => None,
        };
        let now = self.outside.now();
        pool.cut_off(capacity, replicas, amount.unwrap_or(0), now);
    }

    /// Decides about this replica's own question, which is asked only once it is its turn.
    async fn decide_own(
        &self,
        pool: &Arc<Pool>,
        capacity: Capacity,
        amount: Option<u64>,
    ) -> Answer {
        let Ok(_turn) = pool.deciding.acquire().await else {
            return Answer::Again;
        };
        if let Err(undecided) = self.take_lead(pool, capacity).await {
            return undecided.into();
        }
        let message = pool.ask(capacity, amount, self.outside.now());
        self.decide(pool, &message).await
    }

    /// What this replica knows of all pools.
    pub(super) fn told(&self) -> Answer {
        Answer::Told {
            is_settled: self.is_settled.load(Ordering::Acquire),
            tales: self.tales(),
        }
    }

    /// Answers another replica.
    pub(super) async fn answer(&self, pool: &Arc<Pool>, message: &Message) -> Answer {
        if !self.settle().await {
            return Answer::Unsettled;
        }
        let What::Ask { part, .. } = &message.what else {
            return pool.obey(message, self.outside.now());
        };
        let Ok(_turn) = pool.deciding.acquire().await else {
            return Answer::Again;
        };
        if !pool.admit(message, *part, self.outside.now()) {
            let stamp = pool.book().part(&message.from).stamp;
            return Answer::Outdated { stamp };
        }
        match self.take_lead(pool, message.capacity()).await {
            Ok(()) => self.decide(pool, message).await,
            Err(undecided) => undecided.into(),
        }
    }

    /// Decides about a question as the owner.
    async fn decide(&self, pool: &Arc<Pool>, message: &Message) -> Answer {
        let What::Ask { part, least, wish } = message.what else {
            return Answer::Again;
        };
        let asked: (Part, u64, u64) = (part, least, wish);
        for has_recalled in [false, true] {
            match pool.decide(message, asked, has_recalled, self.outside.now()) {
                Decision::Grant(grant) if least == 0 => return Answer::Granted(grant),
                Decision::Grant(grant) => {
                    return match self.remember(pool, message, &grant).await {
                        Ok(()) => Answer::Granted(grant),
                        Err(undecided) => undecided.into(),
                    };
                }
                Decision::Recall => self.recall(pool, message).await,
                Decision::Refuse(denial) => return Answer::Refused(denial),
                Decision::Stale => return Answer::Again,
            }
        }
        Answer::Again
    }

    /// Begins a term if none of this replica's is under way: hears from all who can be reached, a majority at least.
    async fn take_lead(&self, pool: &Arc<Pool>, capacity: Capacity) -> Result<(), Undecided> {
        let list = self.list().number;
        if pool.leads(capacity, list, self.outside.now()).is_some() {
            return Ok(());
        }
        if !self.is_listed(&self.me) {
            return Err(Undecided::Alone);
        }
        let (term, window) = pool.begin(capacity, self.outside.now());
        let what = What::Begin { term: term.clone() };
        let heard = self.tell_all(pool, (capacity, window), &what, None).await?;
        if heard + 1 < self.majority() {
            return Err(Undecided::Alone);
        }
        pool.retain(capacity, |name| self.is_listed(name));
        match pool.lead(&term, window, list) {
            true => Ok(()),
            false => Err(Undecided::Again),
        }
    }

    /// Lets the others give back what they do not use.
    async fn recall(&self, pool: &Arc<Pool>, message: &Message) {
        let (capacity, list) = (message.capacity(), self.list().number);
        let Some(term) = pool.leads(capacity, list, self.outside.now()) else {
            return;
        };
        let what = What::Recall { term };
        let place = (capacity, message.window);
        // Who has begun a newer term is noticed when it is decided again.
        let _ = self.tell_all(pool, place, &what, Some(&message.from)).await;
    }

    /// Lets as many others remember a grant as a majority lacks: the owner and the asker know of it.
    async fn remember(
        &self,
        pool: &Arc<Pool>,
        message: &Message,
        grant: &Grant,
    ) -> Result<(), Undecided> {
        let asker_counts = message.from != self.me && self.is_listed(&message.from);
        let know = 1 + usize::from(asker_counts);
        let missing = self.majority().saturating_sub(know);
        if missing == 0 {
            return Ok(());
        }
        let what = What::Remember {
            term: grant.term.clone(),
            book: grant.book.clone(),
        };
        let others = self.others().into_iter();
        let others: Vec<_> = others.filter(|peer| peer.name != message.from).collect();
        let letter = self.letter(pool, (message.capacity(), message.window), what);
        let mut calls: FuturesUnordered<_> = others
            .iter()
            .map(|peer| self.call(peer, &letter, PEER_LIMIT))
            .collect();
        let mut remembered = 0;
        while let Some(answer) = calls.next().await {
            match answer {
                Ok(Answer::Remembered) => remembered += 1,
                Ok(Answer::Fenced { term }) => return Err(fenced(pool, &term)),
                Ok(_) | Err(Unreachable) => {}
            }
            if missing <= remembered {
                return Ok(());
            }
        }
        Err(Undecided::Alone)
    }

    /// Tells all others who can be reached, learns what they state, and counts them.
    async fn tell_all(
        &self,
        pool: &Arc<Pool>,
        (capacity, window): (Capacity, i64),
        what: &What,
        but: Option<&str>,
    ) -> Result<usize, Undecided> {
        let letter = self.letter(pool, (capacity, window), what.clone());
        let others = self.others().into_iter();
        let others: Vec<_> = others
            .filter(|peer| but != Some(peer.name.as_str()))
            .collect();
        let mut calls: FuturesUnordered<_> = others
            .iter()
            .map(|peer| self.call(peer, &letter, PEER_LIMIT))
            .collect();
        let mut heard = 0;
        while let Some(answer) = calls.next().await {
            match answer {
                Ok(Answer::Stated { book, .. }) => {
                    pool.learn(capacity, window, &book);
                    heard += 1;
                }
                Ok(Answer::Fenced { term }) => return Err(fenced(pool, &term)),
                Ok(_) | Err(Unreachable) => {}
            }
        }
        Ok(heard)
    }

    fn letter(&self, pool: &Arc<Pool>, (capacity, window): (Capacity, i64), what: What) -> Letter {
        Letter::About(Message {
            pool: pool.id.clone(),
            limit: capacity.limit(),
            window,
            from: self.me.clone(),
            what,
        })
    }
}

/// A newer term has begun, which is listened to from now on.
fn fenced(pool: &Pool, term: &Term) -> Undecided {
    pool.promise(term);
    Undecided::Again
}
