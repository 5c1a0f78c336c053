use super::super::feedback::{Arrivals, SEEN_MAX};
use super::*;
use proptest::prelude::*;

fn any_traffic() -> impl Strategy<Value = Traffic> {
    any::<(u64, u64)>().prop_map(|(packets, bytes)| Traffic { packets, bytes })
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
        .prop_flat_map(|ip| any::<u16>().prop_map(move |port| SocketAddr::new(ip.to_canonical(), port)))
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u32>(), any::<u64>(), 1_u8.., "[a-z0-9@._-]{1,15}", 0_u8..64, any::<u16>()).prop_map(
            |(next_in_micros, sent_packets, weight, name, flags, used)| Message::Probe {
                next_in_micros,
                sent_packets,
                weight,
                name: UplinkName::new(&name).expect("the pattern makes lawful names"),
                flags: ProbeFlags::from_bits(flags).expect("known ones"),
                used: UplinkSet::from_bits(used),
            }
        ),
        (any::<u64>(), any::<u64>(), any_traffic(), proptest::option::of(any_address())).prop_map(
            |(echo_sent_at, echo_sent_packets, received, seen)| Message::Reply {
                echo_sent_at,
                echo_sent_packets,
                received,
                seen,
            }
        ),
        (SOUNDING_LENGTH_MIN as u16..=CONTROL_LENGTH_MAX as u16).prop_map(|length| Message::Sounding { length }),
        any::<(u64, u16)>().prop_map(|(echo_sent_at, length)| Message::Sounded { echo_sent_at, length }),
        proptest::collection::vec(proptest::option::of(any_traffic()), UPLINKS_MAX).prop_map(|entries| {
            let mut report = Report::default();
            for (uplink, received) in UplinkId::all().zip(entries) {
                received.into_iter().for_each(|received| report.set(uplink, received));
            }
            Message::Report(report)
        }),
        Just(Message::Bye),
        any_feedback().prop_map(Message::Feedback),
    ]
}

fn any_feedback() -> impl Strategy<Value = Feedback> {
    let arrivals = any::<(u32, u32, u32, u32)>().prop_map(|(highest, age_micros, bytes, burst_kilobytes)| Arrivals {
        highest,
        age_micros,
        bytes,
        burst_kilobytes,
    });
    let arrivals = proptest::collection::vec(proptest::option::of(arrivals), UPLINKS_MAX);
    let seen = proptest::collection::vec(0..SEEN_MAX, 0..100);
    (any::<u32>(), any::<u32>(), arrivals, seen).prop_map(|(hold_micros, next, arrivals, seen)| {
        let mut feedback = Feedback::new(hold_micros, next);
        for (uplink, arrivals) in UplinkId::all().zip(arrivals) {
            arrivals.into_iter().for_each(|arrivals| feedback.set_arrivals(uplink, arrivals));
        }
        seen.into_iter().for_each(|offset| feedback.set_seen(offset));
        feedback
    })
}

fn any_head() -> impl Strategy<Value = Head> {
    (0..UPLINKS_MAX as u8, 1_u64.., any::<u64>(), any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>()).prop_map(
        |(uplink, epoch, peer_epoch, sent_at, next_sequence, heard, tap_mtu)| Head {
            uplink: UplinkId::new(uplink).expect("within range"),
            epoch,
            peer_epoch,
            sent_at,
            next_sequence,
            heard: UplinkSet::from_bits(heard),
            tap_mtu,
        },
    )
}

fn body(datagram: &[u8]) -> &[u8] {
    match super::super::parse(datagram) {
        Ok(super::super::Datagram::Control { body, .. }) => body,
        other => panic!("not a control message: {other:?}"),
    }
}

proptest! {
    #[test]
    fn parsing_undoes_emitting(counter: u32, head in any_head(), message in any_message()) {
        let mut emitted = emit(&head, &message);
        prop_assert_eq!(parse(body(emitted.plaintext(counter))), Ok((head, message)));
    }

    #[test]
    fn what_parses_is_emitted_again_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..400), counter: u32) {
        if let Ok((head, message)) = parse(&bytes) {
            let mut emitted = emit(&head, &message);
            prop_assert_eq!(body(emitted.plaintext(counter)), &bytes[..]);
        }
    }

    #[test]
    fn a_message_cut_short_or_lengthened_is_refused(head in any_head(), message in any_message(), cut in 1_usize..40) {
        let mut emitted = emit(&head, &message);
        let whole = body(emitted.plaintext(0));
        prop_assert!(parse(&whole[..whole.len().saturating_sub(cut)]).is_err());
        let mut longer = whole.to_vec();
        longer.push(0);
        prop_assert!(parse(&longer).is_err());
    }

    #[test]
    fn a_reply_is_never_longer_than_its_probe(
        head in any_head(), name in "[a-z]{1,15}", received in any_traffic(), seen in proptest::option::of(any_address())
    ) {
        let name = UplinkName::new(&name).expect("lawful");
        let flags = ProbeFlags { asks_address: seen.is_some(), ..ProbeFlags::default() };
        let probe = Message::Probe { next_in_micros: 0, sent_packets: 0, weight: 1, name, flags, used: UplinkSet::EMPTY };
        let mut probe = emit(&head, &probe);
        let mut reply = emit(&head, &Message::Reply { echo_sent_at: 0, echo_sent_packets: 0, received, seen });
        prop_assert!(reply.plaintext(0).len() <= probe.plaintext(0).len());
    }

    #[test]
    fn a_sounding_is_as_long_as_it_says_and_its_answer_no_longer(
        head in any_head(), length in SOUNDING_LENGTH_MIN as u16..10_000
    ) {
        let mut room = ParityBytes::room_for(10_000);
        room.put_sounding(&head, 10_000);
        room.put_sounding(&head, length);
        let datagram = room.plaintext(7).to_vec();
        prop_assert_eq!(body(&datagram).len(), usize::from(length));
        prop_assert_eq!(parse(body(&datagram)), Ok((head, Message::Sounding { length })));
        let mut answer = emit(&head, &Message::Sounded { echo_sent_at: 1, length });
        prop_assert!(answer.plaintext(0).len() <= datagram.len());
    }
}
