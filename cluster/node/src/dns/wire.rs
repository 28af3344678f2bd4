//! One DNS question and its answer, as bytes.

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::names::{Kind, Meaning, Zone};

/// Addresses move when Pods do.
const TTL_SECONDS: u32 = 5;
/// What fits in a datagram for a client that says nothing else.
const DATAGRAM_BYTES_DEFAULT: u16 = 512;
const DATAGRAM_BYTES_MAX: u16 = 4096;

/// Answers a query; `None` where it is none.
pub(super) fn respond(query: &[u8], zone: &Zone, is_datagram: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(query).ok()?;
    let [question] = request.queries.as_slice() else {
        return None;
    };
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.add_query(question.clone());
    if request.metadata.op_code == OpCode::Query {
        fill(&mut response, question, zone);
    } else {
        response.metadata.response_code = ResponseCode::NotImp;
    }
    let bytes = response.to_vec().ok()?;
    let room = request.edns.as_ref().map_or(DATAGRAM_BYTES_DEFAULT, |_| {
        request.max_payload().min(DATAGRAM_BYTES_MAX)
    });
    if is_datagram && bytes.len() > usize::from(room) {
        return response.truncate().to_vec().ok();
    }
    Some(bytes)
}

fn fill(response: &mut Message, question: &Query, zone: &Zone) {
    let name = question.name().to_ascii().to_lowercase();
    let kind = match question.query_type() {
        RecordType::A | RecordType::ANY => Kind::Address,
        RecordType::SRV => Kind::Place,
        _ => Kind::Other,
    };
    response.metadata.authoritative = true;
    let owner = question.name().clone();
    match zone.look_up(name.trim_end_matches('.'), kind) {
        Meaning::Foreign => {
            response.metadata.authoritative = false;
            response.metadata.response_code = ResponseCode::Refused;
            return;
        }
        Meaning::Nothing => response.metadata.response_code = ResponseCode::NXDomain,
        Meaning::Addresses(ips) if kind == Kind::Address => {
            let records = ips
                .into_iter()
                .map(|ip| Record::from_rdata(owner.clone(), TTL_SECONDS, RData::A(A(ip))));
            response.add_answers(records);
        }
        Meaning::Places(places) if kind == Kind::Place => {
            for (port, host) in places {
                if let Ok(host) = Name::from_ascii(format!("{host}.")) {
                    let place = RData::SRV(SRV::new(0, 100, port, host));
                    response.add_answer(Record::from_rdata(owner.clone(), TTL_SECONDS, place));
                }
            }
        }
        Meaning::Addresses(_) | Meaning::Places(_) => {}
    }
    if response.answers.is_empty() {
        response.authorities.extend(authority(&zone.domain));
    }
}

/// Says how long "there is nothing" may be remembered.
fn authority(domain: &str) -> Option<Record> {
    let zone = Name::from_ascii(format!("{domain}.")).ok()?;
    let server = Name::from_ascii(format!("ns.dns.{domain}.")).ok()?;
    let keeper = Name::from_ascii(format!("hostmaster.{domain}.")).ok()?;
    let soa = SOA::new(server, keeper, 1, 7200, 1800, 86_400, TTL_SECONDS);
    Some(Record::from_rdata(zone, TTL_SECONDS, RData::SOA(soa)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn zone(addresses: usize) -> Zone {
        let service =
            json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None"}});
        let endpoints: Vec<_> = (0..addresses)
            .map(|n| json!({"addresses": [format!("127.88.{}.{}", n / 200, n % 200)]}))
            .collect();
        let slice = json!({
            "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "endpoints": endpoints
        });
        Zone {
            domain: "cluster.local".to_owned(),
            services: vec![Arc::new(serde_json::from_value(service).unwrap())],
            slices: vec![Arc::new(serde_json::from_value(slice).unwrap())],
        }
    }

    fn ask(name: &str, kind: RecordType, zone: &Zone, is_datagram: bool) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = respond(&query.to_vec().unwrap(), zone, is_datagram).unwrap();
        Message::from_vec(&answer).unwrap()
    }

    #[test]
    fn answers_say_whether_a_name_exists() {
        let check = |name: &str, kind, code, answers: usize| {
            let answer = ask(name, kind, &zone(2), true);
            assert_eq!(
                (answer.metadata.response_code, answer.answers.len()),
                (code, answers),
                "{name}"
            );
        };
        check(
            "DB.shop.svc.cluster.local.",
            RecordType::A,
            ResponseCode::NoError,
            2,
        );
        check(
            "db.shop.svc.cluster.local.",
            RecordType::AAAA,
            ResponseCode::NoError,
            0,
        );
        check(
            "no.shop.svc.cluster.local.",
            RecordType::A,
            ResponseCode::NXDomain,
            0,
        );
        check("example.com.", RecordType::A, ResponseCode::Refused, 0);
        assert_eq!(respond(b"junk", &zone(0), true), None);
    }

    #[test]
    fn an_answer_too_large_for_a_datagram_sends_the_client_to_tcp() {
        assert!(
            ask(
                "db.shop.svc.cluster.local.",
                RecordType::A,
                &zone(300),
                true
            )
            .metadata
            .truncation
        );
        assert_eq!(
            ask(
                "db.shop.svc.cluster.local.",
                RecordType::A,
                &zone(300),
                false
            )
            .answers
            .len(),
            300
        );
    }
}
