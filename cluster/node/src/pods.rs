//! The Pods of this node: a watch that starts a worker for each and tells it what the API says.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::context::NodeContext;
use crate::pod::worker::{self, Wish};

/// Runs until the node shuts down; returns when every Pod has been ended.
pub(crate) async fn run(context: Arc<NodeContext>) {
    let pods: Api<Pod> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.name));
    let mut events = Box::pin(watcher(pods, config).default_backoff());
    let mut keeper = Keeper {
        context: Arc::clone(&context),
        workers: HashMap::new(),
        tasks: JoinSet::new(),
        listed: None,
    };
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            event = events.next() => match event {
                Some(Ok(event)) => keeper.take(event),
                Some(Err(error)) => tracing::warn!(%error, "watch of pods interrupted"),
                None => break,
            },
            Some(ended) = keeper.tasks.join_next() => match ended {
                Ok(uid) => drop(keeper.workers.remove(&uid)),
                Err(error) => tracing::error!(%error, "pod worker failed"),
            },
        }
    }
    while keeper.tasks.join_next().await.is_some() {}
}

struct Keeper {
    context: Arc<NodeContext>,
    workers: HashMap<String, watch::Sender<Wish>>,
    tasks: JoinSet<String>,
    /// The uids of a list that is under way.
    listed: Option<Vec<String>>,
}

impl Keeper {
    fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed = Some(Vec::new()),
            watcher::Event::InitApply(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.push(pod.uid().unwrap_or_default());
                }
                self.wish(pod);
            }
            watcher::Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                for (uid, worker) in &self.workers {
                    if !listed.contains(uid) {
                        worker.send_replace(Wish::Gone);
                    }
                }
                self.sweep(&listed);
            }
            watcher::Event::Apply(pod) => self.wish(pod),
            watcher::Event::Delete(pod) => {
                if let Some(worker) = self.workers.get(&pod.uid().unwrap_or_default()) {
                    worker.send_replace(Wish::Gone);
                }
            }
        }
    }

    fn wish(&mut self, pod: Pod) {
        let (uid, pod) = (pod.uid().unwrap_or_default(), Arc::new(pod));
        if let Some(worker) = self.workers.get(&uid) {
            worker.send_replace(Wish::Run(pod));
            return;
        }
        let (sender, receiver) = watch::channel(Wish::Run(Arc::clone(&pod)));
        self.workers.insert(uid.clone(), sender);
        let context = Arc::clone(&self.context);
        self.tasks.spawn(async move {
            worker::run(context, pod, receiver).await;
            uid
        });
    }

    /// Removes what is left of Pods that were deleted while no node ran.
    fn sweep(&self, listed: &[String]) {
        let known: Vec<String> = listed.iter().chain(self.workers.keys()).cloned().collect();
        for uid in self
            .context
            .folders
            .uids()
            .into_iter()
            .filter(|uid| !known.contains(uid))
        {
            if let Err(error) = self.context.folders.remove_pod(&uid) {
                tracing::warn!(%uid, %error, "folder of a deleted pod not removed");
            }
        }
        self.context.addresses.keep_only(&known);
        self.context.logs.keep_only(&known);
    }
}
