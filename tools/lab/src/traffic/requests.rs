//! Requests for sessions by somebody who has no key that the gateway lets in.

use braid::proto::session::handshake::mac::ReceiverKeys;
use braid::proto::session::handshake::message::{INITIATION_LENGTH, MAC_LENGTH};
use braid::proto::session::keys::PublicKey;
use braid::proto::wire::{KEYED_HEADER_LENGTH, handshake_header};
use braid::sim::random::Random;
use clap::ValueEnum;

/// Kind, version, and what is reserved.
const HEAD: [u8; 4] = [1, 1, 0, 0];
const MAC2_AT: usize = INITIATION_LENGTH - MAC_LENGTH;
const MAC1_AT: usize = MAC2_AT - MAC_LENGTH;

/// How much of a request is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rightness {
    /// Its form.
    Form,
    /// And mac1, which whoever knows the gateway's public key can make; mac2 is zero, as it is without a cookie.
    Mac1,
    /// And mac2 is random, as if there was a cookie.
    Mac2,
}

/// Makes requests.
#[derive(Clone, Debug)]
pub struct Requests {
    rightness: Rightness,
    keys: Option<ReceiverKeys>,
}

impl Requests {
    /// Those to the gateway of this public key.
    ///
    /// # Errors
    /// That mac1 takes the key.
    pub fn new(rightness: Rightness, gateway: Option<&PublicKey>) -> Result<Self, String> {
        let keys = match (rightness, gateway) {
            (Rightness::Form, _) => None,
            (_, Some(gateway)) => Some(ReceiverKeys::of(gateway)),
            (_, None) => return Err("mac1 takes the gateway's public key: add --gateway-key".to_owned()),
        };
        Ok(Self { rightness, keys })
    }

    /// One that differs from all others.
    pub fn draw(&self, random: &mut Random) -> [u8; INITIATION_LENGTH] {
        let mut request = [0; INITIATION_LENGTH];
        request.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_be_bytes()[..chunk.len()]));
        request[..KEYED_HEADER_LENGTH].copy_from_slice(&handshake_header(random.next() as u32));
        request[KEYED_HEADER_LENGTH..KEYED_HEADER_LENGTH + HEAD.len()].copy_from_slice(&HEAD);
        if let Some(keys) = &self.keys {
            keys.write_mac1(&mut request, MAC1_AT);
        }
        if self.rightness != Rightness::Mac2 {
            request[MAC2_AT..].fill(0);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use braid::proto::session::handshake::message::{Message, parse};
    use braid::proto::session::keys::{KEY_LENGTH, PrivateKey};

    #[test]
    fn as_much_is_right_as_was_asked_for() {
        let gateway = PrivateKey::from_random([7; KEY_LENGTH]).public();
        let keys = ReceiverKeys::of(&gateway);
        let mut random = Random::new(1);
        for rightness in [Rightness::Form, Rightness::Mac1, Rightness::Mac2] {
            let requests = Requests::new(rightness, Some(&gateway)).expect("there is a key");
            for _ in 0..100 {
                let request = requests.draw(&mut random);
                assert!(matches!(parse(&request), Ok(Message::Initiation(_))));
                assert_eq!(keys.is_mac1(&request, MAC1_AT), rightness != Rightness::Form);
                assert_eq!(request[MAC2_AT..] == [0; MAC_LENGTH], rightness != Rightness::Mac2);
            }
        }
    }

    #[test]
    fn mac1_takes_the_gateways_key() {
        assert!(Requests::new(Rightness::Form, None).is_ok());
        assert!(Requests::new(Rightness::Mac1, None).is_err());
    }
}
