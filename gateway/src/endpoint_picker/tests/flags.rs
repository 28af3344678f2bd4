//! Where the picker listens.

use clap::Parser;

use crate::GatewayArgs;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[test]
fn it_listens_where_it_is_told_on_the_loopback_interface_otherwise_or_not_at_all() {
    let check = |more: &[&str], expected: Option<&str>| {
        let words = [&["gateway", "--config", "f"], more].concat();
        let gateway = Command::parse_from(words).gateway;
        let expected = expected.map(|address| address.parse().unwrap());
        assert_eq!(gateway.endpoint_picker_listen, expected, "{more:?}");
    };
    check(&[], None);
    check(&["--endpoint-picker-listen"], Some("127.0.0.1:9002"));
    let told = ["--endpoint-picker-listen", "[::1]:7"];
    check(&told, Some("[::1]:7"));
}
