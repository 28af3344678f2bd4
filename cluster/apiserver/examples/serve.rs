//! The API server alone, for trying clients against it: `serve DATA_DIR PORT`, then use `DATA_DIR/kubeconfig`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cluster_apiserver::{Pki, ServerConfig, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    telemetry::init(telemetry::LogFormat::Text, "info");
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("usage: serve DATA_DIR PORT")?);
    let port: u16 = args.next().unwrap_or_default().parse().unwrap_or(6443);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let advertise_url = format!("https://{}", listener.local_addr()?);
    let pki = Pki::load_or_create(&folder.join("pki"))?;
    pki.write_kubeconfig(&folder.join("kubeconfig"), &advertise_url)?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let config = ServerConfig {
        data_dir: Some(folder.join("cluster")),
        pki,
        advertise_url,
    };
    let serving = serve(config, listener, shutdown);
    tokio::pin!(serving);
    tokio::select! {
        outcome = serving.as_mut() => return Ok(outcome?),
        signal = tokio::signal::ctrl_c() => signal?,
    }
    stop.cancel();
    Ok(serving.await?)
}
