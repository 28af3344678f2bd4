//! Clients of a gateway: a closed loop that counts right answers, and streams that stay open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::tree::{self, CpuTimes};

use super::{
    histogram::Histogram,
    http::{Chunks, Framing, Head},
    script::{Work, has_content},
};

const READ_BYTES: usize = 16 << 10;
const WARM_UP_MAX: Duration = Duration::from_secs(1);
/// How long a gateway may take until its first right answer: some look for their upstreams after they are ready.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_ANSWER_INTERVAL: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
const OPEN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long all streams are open before the memory is read.
const OPEN_HOLD: Duration = Duration::from_secs(2);

const WARM_UP: u8 = 0;
const COUNT: u8 = 1;
const STOP: u8 = 2;

/// A load: so many clients, each of which asks again as soon as it is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) port: u16,
    /// The gateway's process.
    pub(super) pid: u32,
    pub(super) work: Work,
    pub(super) clients: usize,
    pub(super) seconds: f64,
}

/// What a load showed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Right answers a second.
    pub(super) rate: f64,
    /// Microseconds of the gateway's CPU time for each of them.
    pub(super) cpu_micros: f64,
    pub(super) p50_micros: f64,
    pub(super) p99_micros: f64,
}

/// Loads a gateway and counts, once it is warm.
pub(super) async fn load(load: &Load) -> Result<Seen> {
    let mut first = Client::new(load.port, load.work);
    let begin = Instant::now();
    while let Err(error) = first.ask().await {
        ensure!(begin.elapsed() < FIRST_ANSWER_TIMEOUT, error);
        first.connection = None;
        sleep(FIRST_ANSWER_INTERVAL).await;
    }
    let processes = tree::processes(load.pid)?;
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let client = Client::new(load.port, load.work);
        clients.spawn(client.run(Arc::clone(&phase)));
    }
    let seconds = Duration::from_secs_f64(load.seconds);
    let counting = async {
        sleep(WARM_UP_MAX.min(seconds / 2)).await;
        let (begin, before) = (Instant::now(), CpuTimes::read(&processes));
        phase.store(COUNT, Ordering::Relaxed);
        sleep(seconds).await;
        phase.store(STOP, Ordering::Relaxed);
        let after = CpuTimes::read(&processes);
        (begin.elapsed(), after.since(&before))
    };
    let mut latencies = Histogram::default();
    let answering = async {
        while let Some(ended) = clients.join_next().await {
            latencies.merge(&ended.context("waiting for a client")??);
        }
        Ok::<_, anyhow::Error>(())
    };
    let ((elapsed, cpu), ()) = tokio::try_join!(async { Ok(counting.await) }, answering)?;
    ensure!(0 < latencies.total(), "no answer within {elapsed:?}");
    let answers = latencies.total() as f64;
    Ok(Seen {
        rate: answers / elapsed.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / answers,
        p50_micros: latencies.quantile_micros(0.5),
        p99_micros: latencies.quantile_micros(0.99),
    })
}

/// Opens streams and reads the gateway's memory in bytes while all of them are open.
pub(super) async fn open(port: u16, pid: u32, streams: usize) -> Result<f64> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..streams {
        let begun = Arc::clone(&begun);
        clients.spawn(async move { Client::new(port, Work::Drip).hold(&begun).await });
    }
    let begin = Instant::now();
    while begun.load(Ordering::Relaxed) < streams {
        if let Some(ended) = clients.try_join_next() {
            ended.context("waiting for a stream")??;
        }
        let open = begun.load(Ordering::Relaxed);
        ensure!(
            begin.elapsed() < OPEN_TIMEOUT,
            "{open} of {streams} streams began within {OPEN_TIMEOUT:?}"
        );
        sleep(OPEN_POLL_INTERVAL).await;
    }
    sleep(OPEN_HOLD).await;
    if let Some(ended) = clients.try_join_next() {
        ended.context("waiting for a stream")??;
    }
    Ok(tree::memory_bytes(&tree::processes(pid)?))
}

/// A client with a connection that it keeps.
struct Client {
    port: u16,
    work: Work,
    request: Vec<u8>,
    connection: Option<TcpStream>,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Client {
    fn new(port: u16, work: Work) -> Self {
        Self {
            port,
            work,
            request: work.request(),
            connection: None,
            buffer: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Asks until it is told to stop; gives the latencies that count.
    async fn run(mut self, phase: Arc<AtomicU8>) -> Result<Histogram> {
        let mut latencies = Histogram::default();
        loop {
            let begin = Instant::now();
            let asked = timeout(REQUEST_TIMEOUT, self.ask()).await;
            asked.with_context(|| format!("no answer within {REQUEST_TIMEOUT:?}"))??;
            match phase.load(Ordering::Relaxed) {
                WARM_UP => {}
                COUNT => latencies.add(begin.elapsed()),
                _ => return Ok(latencies),
            }
        }
    }

    /// Asks once; the answer must be right.
    async fn ask(&mut self) -> Result<()> {
        let mut stream = match self.connection.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        stream
            .write_all(&self.request)
            .await
            .context("sending a request")?;
        let head = self.head(&mut stream).await?;
        let status = head.status().context("an answer without a status")?;
        self.body.clear();
        match head.framing {
            Framing::Length(length) => {
                while self.buffer.len() < head.bytes + length {
                    self.read(&mut stream).await?;
                }
                self.body.extend_from_slice(&self.buffer[head.bytes..]);
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                chunks.push(&self.buffer[head.bytes..], &mut self.body)?;
                while !chunks.is_done() {
                    self.buffer.clear();
                    self.read(&mut stream).await?;
                    chunks.push(&self.buffer, &mut self.body)?;
                }
            }
        }
        if status != 200 {
            bail!("status {status}: {}", String::from_utf8_lossy(&self.body));
        }
        self.work.check(&self.body)?;
        self.connection = Some(stream);
        Ok(())
    }

    /// Asks for a stream, says when it has begun, and keeps it open.
    async fn hold(mut self, begun: &AtomicUsize) -> Result<()> {
        let mut stream = self.connect().await?;
        stream.write_all(&self.request).await?;
        let head = self.head(&mut stream).await?;
        ensure!(head.status() == Some(200), "`{}`", head.start);
        while !has_content(&self.buffer) {
            self.read(&mut stream).await?;
        }
        begun.fetch_add(1, Ordering::Relaxed);
        loop {
            self.buffer.clear();
            self.read(&mut stream).await?;
        }
    }

    async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await;
        let stream = stream.context("connecting to the gateway")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Reads until the head is complete.
    async fn head(&mut self, stream: &mut TcpStream) -> Result<Head> {
        self.buffer.clear();
        loop {
            self.read(stream).await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                return Ok(head);
            }
        }
    }

    async fn read(&mut self, stream: &mut TcpStream) -> Result<()> {
        self.buffer.reserve(READ_BYTES);
        let bytes = stream.read_buf(&mut self.buffer).await;
        ensure!(
            bytes.context("reading an answer")? != 0,
            "the gateway closed a connection"
        );
        Ok(())
    }
}
