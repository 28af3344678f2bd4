//! Services: a userspace proxy on each ClusterIP, and on 127.0.0.1 for those of type LoadBalancer.

pub(crate) mod balancer;
pub(crate) mod expose;
pub(crate) mod plan;
pub(crate) mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::context::NodeContext;
use balancer::Balancers;
use plan::{Route, routes};
use proxy::Proxy;

/// When an address that could not be bound is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the proxies as the Services are until the node shuts down.
pub(crate) async fn run(context: Arc<NodeContext>) {
    let mut changed = context.caches.services_changed.clone();
    let mut proxies: BTreeMap<SocketAddr, Proxy> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    let mut balancers = Balancers::new(Arc::clone(&context));
    loop {
        changed.borrow_and_update();
        let (services, slices) = (
            context.caches.services.state(),
            context.caches.slices.state(),
        );
        let wanted = routes(&services, &slices, context.api_server_address);
        update(&context, &mut proxies, &mut refused, &wanted).await;
        balancers.update(&services, &wanted).await;
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            changed = changed.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !refused.is_empty() => {}
        }
    }
}

async fn update(
    context: &Arc<NodeContext>,
    proxies: &mut BTreeMap<SocketAddr, Proxy>,
    refused: &mut BTreeSet<SocketAddr>,
    wanted: &BTreeMap<SocketAddr, Route>,
) {
    proxies.retain(|address, _| wanted.contains_key(address));
    refused.retain(|address| wanted.contains_key(address));
    for (address, route) in wanted {
        if let Some(proxy) = proxies.get(address) {
            proxy.set_backends(route.backends.clone());
            continue;
        }
        match Proxy::start(context, *address, route.backends.clone()).await {
            Ok(proxy) => {
                refused.remove(address);
                proxies.insert(*address, proxy);
            }
            // Said once; another cluster on this host may hold the address for long.
            Err(error) if refused.insert(*address) => {
                tracing::warn!(service = %route.service, %address, %error, "service address not served");
            }
            Err(_) => {}
        }
    }
}
