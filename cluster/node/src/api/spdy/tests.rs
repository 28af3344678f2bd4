use super::*;

/// A new stream as a client sends it.
fn open(encoder: &mut Encoder, stream: u32, headers: &[(&str, &str)], flags: u8) -> Bytes {
    let block = encoder.compress(headers).unwrap();
    let mut body = BytesMut::new();
    body.put_u32(stream);
    body.put_u32(0);
    body.put_u16(0);
    body.put_slice(&block);
    control(SYN_STREAM, flags, &body)
}

fn owned(headers: &[(&str, &str)]) -> Headers {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn frames_survive_any_cut_of_the_bytes() {
    let mut encoder = Encoder::default();
    let error = [
        ("streamtype", "error"),
        ("port", "8080"),
        ("requestid", "0"),
    ];
    let stream = [("streamtype", "data"), ("port", "8080"), ("requestid", "0")];
    let mut bytes = BytesMut::new();
    bytes.put(open(&mut encoder, 1, &error, FLAG_FIN));
    bytes.put(open(&mut encoder, 3, &stream, 0));
    bytes.put(data(3, b"hello", false));
    bytes.put(pong(7));
    bytes.put(reset(1));
    bytes.put(data(3, b"", true));
    let expected = vec![
        Frame::Open {
            stream: 1,
            headers: owned(&error),
            is_last: true,
        },
        Frame::Open {
            stream: 3,
            headers: owned(&stream),
            is_last: false,
        },
        Frame::Data {
            stream: 3,
            bytes: Bytes::from_static(b"hello"),
            is_last: false,
        },
        Frame::Ping { id: 7 },
        Frame::Reset { stream: 1 },
        Frame::Data {
            stream: 3,
            bytes: Bytes::new(),
            is_last: true,
        },
    ];
    for step in [1, 3, 8, bytes.len()] {
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.feed(piece);
            while let Some(frame) = decoder.next().unwrap() {
                got.push(frame);
            }
        }
        assert_eq!(got, expected, "in pieces of {step}");
    }
}

#[test]
fn replies_use_the_session_dictionary() {
    let mut encoder = Encoder::default();
    let first = encoder.reply(1).unwrap();
    assert_eq!(&first[..4], &[0x80, 3, 0, 2]);
    assert_eq!(
        &first[14..18],
        &[0xe3, 0xc6, 0xa7, 0xc2],
        "the header names the dictionary"
    );
    let mut decoder = Decoder::default();
    decoder.feed(&first);
    decoder.feed(&encoder.reply(3).unwrap());
    assert_eq!(decoder.next(), Ok(Some(Frame::Other)));
    assert_eq!(decoder.next(), Ok(Some(Frame::Other)));
    assert_eq!(decoder.next(), Ok(None));
}

#[test]
fn what_is_not_spdy_is_refused() {
    #[track_caller]
    fn check(bytes: &[u8], expected: SpdyError) {
        let mut decoder = Decoder::default();
        decoder.feed(bytes);
        assert_eq!(decoder.next(), Err(expected));
    }
    check(&[0x80, 2, 0, 1, 0, 0, 0, 0], SpdyError::Version(2));
    check(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], SpdyError::TooLarge);
    check(&[0x80, 3, 0, 6, 0, 0, 0, 1, 9], SpdyError::Short);
    check(
        &[
            0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9,
        ],
        SpdyError::Headers,
    );
}
