//! Events about Pods and Services: recorded without waiting, counted when they repeat.

use std::collections::HashMap;
use std::collections::VecDeque;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pod::status::whole_seconds;

/// Events that wait to be written; more are dropped.
const QUEUE_MAX: usize = 512;
/// Events whose repetitions are counted.
const KNOWN_MAX: usize = 512;
/// The API's limit of an event's message.
const MESSAGE_BYTES_MAX: usize = 1024;

pub(crate) const COMPONENT: &str = "quarterdeck-node";

/// Something worth telling about an object.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) about: ObjectReference,
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Records events in the background.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::Sender<News>,
}

impl Events {
    pub(crate) fn new() -> (Self, mpsc::Receiver<News>) {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, inbox)
    }

    pub(crate) fn normal(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.tell(News {
            about,
            is_warning: false,
            reason: reason.to_owned(),
            message: message.into(),
        });
    }

    pub(crate) fn warning(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.tell(News {
            about,
            is_warning: true,
            reason: reason.to_owned(),
            message: message.into(),
        });
    }

    fn tell(&self, news: News) {
        if self.queue.try_send(news).is_err() {
            tracing::debug!("event dropped: too many wait");
        }
    }
}

/// Writes events until `shutdown`.
pub(crate) async fn write(
    client: kube::Client,
    node: String,
    mut inbox: mpsc::Receiver<News>,
    shutdown: CancellationToken,
) {
    let mut known = Known::default();
    loop {
        let news = tokio::select! {
            () = shutdown.cancelled() => return,
            news = inbox.recv() => match news {
                Some(news) => news,
                None => return,
            },
        };
        if let Err(error) = record(&client, &node, &mut known, news).await {
            tracing::debug!(%error, "event not recorded");
        }
    }
}

type Key = (String, String, String);

#[derive(Default)]
struct Known {
    counts: HashMap<Key, (String, i32)>,
    order: VecDeque<Key>,
}

impl Known {
    fn remember(&mut self, key: Key, name: String, count: i32) {
        if self.counts.insert(key.clone(), (name, count)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
    }
}

async fn record(
    client: &kube::Client,
    node: &str,
    known: &mut Known,
    news: News,
) -> Result<(), kube::Error> {
    let namespace = news
        .about
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let now = Time(whole_seconds(Timestamp::now()));
    let subject = news.about.uid.clone().unwrap_or_default()
        + news.about.field_path.as_deref().unwrap_or_default();
    let key = (subject, news.reason.clone(), news.message.clone());
    if let Some((name, count)) = known.counts.get(&key).cloned() {
        let patch = serde_json::json!({"count": count + 1, "lastTimestamp": now});
        match events
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {
                known.remember(key, name, count + 1);
                return Ok(());
            }
            // The event has expired; a new one begins.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let nanoseconds = Timestamp::now().as_nanosecond();
    let name = format!(
        "{}.{nanoseconds:x}",
        news.about.name.as_deref().unwrap_or("node")
    );
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: news.about,
        type_: Some(if news.is_warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(news.reason),
        message: Some(bounded(news.message)),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    };
    events.create(&PostParams::default(), &event).await?;
    known.remember(key, name, 1);
    Ok(())
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX - 3;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str("...");
    }
    message
}
