//! Services: a userspace proxy on each ClusterIP, and on 127.0.0.1 for those of type LoadBalancer.

pub(crate) mod balancer;
pub(crate) mod plan;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::context::NodeContext;
use balancer::Balancers;
use plan::{Route, routes};
use proxy::Proxy;

/// Keeps the proxies as the Services are until the node shuts down.
pub(crate) async fn run(context: Arc<NodeContext>) {
    let mut changed = context.caches.services_changed.clone();
    let mut proxies: BTreeMap<SocketAddr, Proxy> = BTreeMap::new();
    let mut balancers = Balancers::new(Arc::clone(&context));
    loop {
        changed.borrow_and_update();
        let (services, slices) = (context.caches.services.state(), context.caches.slices.state());
        let wanted = routes(&services, &slices, context.api_server_address);
        update(&context, &mut proxies, &wanted).await;
        balancers.update(&services, &wanted).await;
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

async fn update(context: &Arc<NodeContext>, proxies: &mut BTreeMap<SocketAddr, Proxy>, wanted: &BTreeMap<SocketAddr, Route>) {
    proxies.retain(|address, _| wanted.contains_key(address));
    for (address, route) in wanted {
        if let Some(proxy) = proxies.get(address) {
            proxy.set_backends(route.backends.clone());
            continue;
        }
        match Proxy::start(context, *address, route.backends.clone()).await {
            Ok(proxy) => drop(proxies.insert(*address, proxy)),
            Err(error) => tracing::warn!(service = %route.service, %address, %error, "service address not served"),
        }
    }
}
