//! The greeting between brokers: which node of which cluster each is, and that both have the shared key.
//!
//! The broker that connects says hello with a nonce. Without a key it is let in when the cluster and the protocol are
//! right. With a key the other answers with a nonce of its own and its proof (an HMAC-SHA256 over both nonces and both
//! identities), and a second hello brings the proof of the first. A proof is good for one connection and one direction.
//!
//! *Owns*: who is let in, and what a proof is over. *Never*: keeps a connection. *Runs on*: every core.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::rng::Rng;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::peer_hello::{PeerHelloRequest, PeerHelloResponse};
use crate::wire::text::Text;

/// The versions of what brokers say to each other that this one speaks.
const PROTOCOL_MIN: i16 = 1;
const PROTOCOL_MAX: i16 = 1;

const NONCE_BYTES: usize = 16;

/// Lengths of a shared key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// What all brokers of a cluster know and nobody else. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerKey(Vec<u8>);

impl PeerKey {
    /// What a file of it holds. Blanks and line ends around it do not count. Errors say what is wrong.
    pub fn parse(content: &[u8]) -> Result<PeerKey, String> {
        let key = content.trim_ascii();
        if !KEY_BYTES.contains(&key.len()) {
            return Err(format!("holds {} bytes, not {} to {}", key.len(), KEY_BYTES.start(), KEY_BYTES.end()));
        }
        Ok(PeerKey(key.to_vec()))
    }

    pub(in crate::broker) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(…)")
    }
}

/// This broker, as it shows itself to others.
#[derive(Clone, Copy, Debug)]
pub struct Myself<'a> {
    /// Empty: it is of no cluster yet.
    pub cluster_id: &'a str,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub cores: u16,
    pub key: Option<&'a PeerKey>,
}

/// Whoever has connected to the listener for brokers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Guest {
    #[default]
    Unknown,
    /// Has said this hello; its proof is to be over `nonce`.
    Asked {
        hello: Box<PeerHelloRequest>,
        nonce: Bytes,
    },
    Admitted(Admitted),
}

/// A core of another broker, as it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub core: CoreId,
}

/// Another broker that this one has connected to, as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub cores: u16,
    /// Empty: it is of no cluster yet.
    pub cluster_id: Text,
}

impl Guest {
    /// Answers a hello. What is served next on the connection depends on what the guest is after it.
    pub fn on_hello(&mut self, me: Myself<'_>, hello: &PeerHelloRequest, rng: &mut Rng) -> PeerHelloResponse {
        let before = std::mem::take(self);
        let mut answer = PeerHelloResponse {
            cluster_id: me.cluster_id.into(),
            node_id: me.node.0,
            incarnation: me.incarnation,
            cores: me.cores,
            ..PeerHelloResponse::default()
        };
        match self.admit(me, before, hello, &mut answer, rng) {
            Ok(()) => answer.admitted = matches!(self, Guest::Admitted(_)),
            Err((code, why)) => {
                answer.error_code = code.code();
                answer.error_message = Some(Text::from(why.as_str()));
            }
        }
        answer
    }

    fn admit(
        &mut self,
        me: Myself<'_>,
        before: Guest,
        hello: &PeerHelloRequest,
        answer: &mut PeerHelloResponse,
        rng: &mut Rng,
    ) -> Result<(), (ErrorCode, String)> {
        if hello.protocol_min > PROTOCOL_MAX || hello.protocol_max < PROTOCOL_MIN {
            let (min, max) = (hello.protocol_min, hello.protocol_max);
            let why = format!("speaks versions {min} to {max} of the protocol between brokers, not {PROTOCOL_MAX}");
            return Err((ErrorCode::UnsupportedVersion, why));
        }
        if !may_meet(me.cluster_id, &hello.cluster_id) {
            let why = format!("this is a broker of cluster {}, not {}", me.cluster_id, hello.cluster_id);
            return Err((ErrorCode::InconsistentClusterId, why));
        }
        if hello.node_id == me.node.0 && hello.incarnation != me.incarnation {
            let why = format!("there is another broker with node.id {}", me.node);
            return Err((ErrorCode::DuplicateBrokerRegistration, why));
        }
        if hello.node_id < 0 || hello.nonce.len() != NONCE_BYTES {
            return Err((ErrorCode::InvalidRequest, "no such hello can be".to_owned()));
        }
        let admitted =
            Admitted { node: NodeId(hello.node_id), incarnation: hello.incarnation, core: CoreId(hello.core) };
        let Some(key) = me.key else {
            *self = Guest::Admitted(admitted);
            return Ok(());
        };
        if let Guest::Asked { hello: first, nonce } = before
            && first.nonce == hello.nonce
            && !hello.proof.is_empty()
        {
            let host = (me.node, me.incarnation);
            if mac(key, Prover::Guest, hello, host, &nonce).verify_slice(&hello.proof).is_err() {
                return Err((ErrorCode::ClusterAuthorizationFailed, "the proof of the shared key is wrong".to_owned()));
            }
            *self = Guest::Admitted(admitted);
            return Ok(());
        }
        answer.nonce = nonce(rng);
        answer.proof = proof(key, Prover::Host, hello, (me.node, me.incarnation), &answer.nonce);
        *self = Guest::Asked { hello: Box::new(hello.clone()), nonce: answer.nonce.clone() };
        Ok(())
    }
}

/// The side that connects.
#[derive(Clone, Debug)]
pub struct Greeter {
    hello: PeerHelloRequest,
}

/// What follows from an answer to a hello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Say the hello again: it has a proof now.
    SayAgain,
    /// Both sides know each other.
    Go(Host),
}

impl Greeter {
    pub fn new(me: Myself<'_>, core: CoreId, rng: &mut Rng) -> Greeter {
        Greeter {
            hello: PeerHelloRequest {
                cluster_id: me.cluster_id.into(),
                node_id: me.node.0,
                incarnation: me.incarnation,
                core: core.0,
                protocol_min: PROTOCOL_MIN,
                protocol_max: PROTOCOL_MAX,
                nonce: nonce(rng),
                proof: Bytes::new(),
            },
        }
    }

    pub fn hello(&self) -> &PeerHelloRequest {
        &self.hello
    }

    /// Errors say why the other side is not to be spoken to. `wanted` is the node that should be there.
    pub fn on_answer(
        &mut self,
        me: Myself<'_>,
        wanted: Option<NodeId>,
        answer: &PeerHelloResponse,
    ) -> Result<Next, String> {
        if answer.error_code != 0 {
            let why = answer.error_message.as_ref().map_or("", Text::as_str);
            return Err(format!("it refuses this broker: {why} (error {})", answer.error_code));
        }
        let node = NodeId(answer.node_id);
        if node == me.node {
            let itself = answer.incarnation == me.incarnation;
            return Err(if itself { "it is this broker itself" } else { "it has the same node.id" }.to_owned());
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != node) {
            return Err(format!("node {node} is there and not node {wanted}"));
        }
        if !may_meet(me.cluster_id, &answer.cluster_id) {
            return Err(format!("it is a broker of cluster {}, not {}", answer.cluster_id, me.cluster_id));
        }
        let said_again = !self.hello.proof.is_empty();
        match me.key {
            None if answer.admitted => {}
            None => return Err("it wants proof of a shared key, and peer.shared.key.file is not set".to_owned()),
            // Its proof was seen with the answer before.
            Some(_) if said_again && answer.admitted => {}
            Some(_) if said_again => return Err("it wants proof again".to_owned()),
            Some(key) => {
                let host = (node, answer.incarnation);
                if mac(key, Prover::Host, &self.hello, host, &answer.nonce).verify_slice(&answer.proof).is_err() {
                    return Err("it does not prove that it has the shared key (peer.shared.key.file)".to_owned());
                }
                self.hello.proof = proof(key, Prover::Guest, &self.hello, host, &answer.nonce);
                return Ok(Next::SayAgain);
            }
        }
        let cluster_id = answer.cluster_id.clone();
        Ok(Next::Go(Host { node, incarnation: answer.incarnation, cores: answer.cores.max(1), cluster_id }))
    }
}

/// A broker of no cluster yet may meet any.
fn may_meet(ours: &str, theirs: &str) -> bool {
    ours.is_empty() || theirs.is_empty() || ours == theirs
}

fn nonce(rng: &mut Rng) -> Bytes {
    let mut bytes = Vec::with_capacity(NONCE_BYTES);
    bytes.extend_from_slice(&rng.next_u64().to_be_bytes());
    bytes.extend_from_slice(&rng.next_u64().to_be_bytes());
    Bytes::from(bytes)
}

/// Whose proof it is.
#[derive(Clone, Copy, Debug)]
enum Prover {
    Guest,
    Host,
}

fn proof(key: &PeerKey, by: Prover, hello: &PeerHelloRequest, host: (NodeId, Incarnation), nonce: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&mac(key, by, hello, host, nonce).finalize().into_bytes())
}

fn mac(
    key: &PeerKey,
    by: Prover,
    hello: &PeerHelloRequest,
    (node, incarnation): (NodeId, Incarnation),
    nonce: &[u8],
) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes a key of any length");
    let label: &[u8] = match by {
        Prover::Guest => b"corelog peer guest 1",
        Prover::Host => b"corelog peer host 1",
    };
    for part in [label, &hello.nonce, nonce, hello.cluster_id.as_str().as_bytes(), &hello.incarnation.0, &incarnation.0]
    {
        // With their lengths, so that no two sequences of parts are the same bytes.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.update(&hello.node_id.to_be_bytes());
    mac.update(&hello.core.to_be_bytes());
    mac.update(&node.0.to_be_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn myself<'a>(node: i32, cluster_id: &'a str, key: Option<&'a PeerKey>) -> Myself<'a> {
        Myself { cluster_id, node: NodeId(node), incarnation: Incarnation([node as u8; 16]), cores: 4, key }
    }

    fn key(text: &str) -> PeerKey {
        PeerKey::parse(text.as_bytes()).expect("long enough")
    }

    /// The whole greeting; the hellos may be changed on their way.
    fn greet(
        guest: Myself<'_>,
        host: Myself<'_>,
        wanted: Option<i32>,
        change: impl Fn(&mut PeerHelloRequest),
    ) -> Result<(Host, Admitted), String> {
        let mut rng = Rng::new(1);
        let mut greeter = Greeter::new(guest, CoreId(3), &mut rng);
        let mut met = Guest::default();
        for _ in 0..3 {
            let mut hello = greeter.hello().clone();
            change(&mut hello);
            let answer = met.on_hello(host, &hello, &mut rng);
            assert_eq!(answer.admitted, matches!(met, Guest::Admitted(_)));
            if let Next::Go(host) = greeter.on_answer(guest, wanted.map(NodeId), &answer)? {
                let Guest::Admitted(admitted) = met else { return Err("the host knows nothing of it".into()) };
                return Ok((host, admitted));
            }
        }
        Err("no end".into())
    }

    #[test]
    fn brokers_of_one_cluster_with_the_same_key_or_none_get_to_know_each_other() {
        let key = key(" sixteen bytes at least \n");
        for key in [None, Some(&key)] {
            for (ours, theirs) in [("c", "c"), ("", "c"), ("c", ""), ("", "")] {
                let (guest, host) = (myself(1, ours, key), myself(2, theirs, key));
                let (met, admitted) = greet(guest, host, Some(2), |_| {}).expect("they may");
                assert_eq!((met.node, met.cores, met.cluster_id.as_str()), (NodeId(2), 4, theirs));
                let incarnation = Incarnation([1; 16]);
                assert_eq!(admitted, Admitted { node: NodeId(1), incarnation, core: CoreId(3) });
            }
        }
    }

    #[test]
    fn others_are_refused_and_told_why() {
        let (right, wrong) = (key("sixteen bytes at least"), key("sixteen bytes or more!"));
        let check = |guest: Myself<'_>, host: Myself<'_>, expect: &str| {
            let why = greet(guest, host, Some(2), |_| {}).expect_err(expect);
            assert!(why.contains(expect), "{why}");
        };
        check(myself(1, "c", None), myself(2, "d", None), "this is a broker of cluster d, not c");
        check(myself(1, "c", None), myself(3, "c", None), "node 3 is there and not node 2");
        check(myself(1, "c", None), myself(2, "c", Some(&right)), "it wants proof of a shared key");
        check(myself(1, "c", Some(&right)), myself(2, "c", None), "it does not prove");
        check(myself(1, "c", Some(&wrong)), myself(2, "c", Some(&right)), "it does not prove");
        check(myself(2, "c", None), myself(2, "c", None), "it is this broker itself");
        let twin = Myself { incarnation: Incarnation([9; 16]), ..myself(2, "c", None) };
        check(twin, myself(2, "c", None), "there is another broker with node.id 2");
    }

    #[test]
    fn a_hello_that_was_changed_on_its_way_is_not_let_in() {
        let key = key("sixteen bytes at least");
        let (guest, host) = (myself(1, "c", Some(&key)), myself(2, "c", Some(&key)));
        let changes: [fn(&mut PeerHelloRequest); 7] = [
            |hello| hello.node_id = 7,
            |hello| hello.node_id = -1,
            |hello| hello.core += 1,
            |hello| hello.incarnation = Incarnation([7; 16]),
            |hello| hello.nonce = Bytes::from_static(b"short"),
            |hello| hello.proof = Bytes::from_static(b"what"),
            |hello| hello.protocol_min = 2,
        ];
        for change in changes {
            greet(guest, host, None, change).expect_err("it is not what the guest has said");
        }
        // What the host sends is no proof of a guest.
        let mut rng = Rng::new(2);
        let mut met = Guest::default();
        let mut hello = Greeter::new(guest, CoreId(0), &mut rng).hello().clone();
        hello.proof = met.on_hello(host, &hello, &mut rng).proof;
        let answer = met.on_hello(host, &hello, &mut rng);
        assert_eq!(answer.error_code, ErrorCode::ClusterAuthorizationFailed.code());
        assert_eq!(met, Guest::Unknown);
    }

    #[test]
    fn a_key_has_a_least_length_and_is_not_shown() {
        assert_eq!(PeerKey::parse(b"  short \n"), Err("holds 5 bytes, not 16 to 1024".to_owned()));
        assert!(PeerKey::parse(&[b'x'; 1025]).is_err());
        assert_eq!(format!("{:?}", key("sixteen bytes at least")), "PeerKey(…)");
    }
}
