//! The seeds of this broker: where clients connect to brokers of the cluster that it is to join.
//!
//! A seed is asked over Kafka's protocol which cluster it is of and where its listener for brokers is. There a new broker
//! is registered. One that has data is a member of its cluster already, and asks each seed once when it starts: if they
//! are of another cluster, the data directory or the seeds are not what was meant, and it stops before it takes clients.
//! Seeds that do not answer keep nobody from starting: they may be starting themselves.
//!
//! A seed may be anything that listens at the address, so what is wrong with it is said, once as long as it stays so.
//!
//! *Owns*: whose turn it is, and what each seed has said. *Never*: decides who may join. *Runs on*: core 0.

use crate::base::time::Now;
use crate::broker::effect::{Effect, Effects};
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, PeerTo};
use crate::broker::shard::Shard;
use crate::config::Address;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse, ENDPOINT_PEER};
use crate::wire::text::Text;

const DESCRIBE_VERSION: i16 = 1;

#[derive(Debug, Default)]
pub struct Seeds {
    next: usize,
    by_number: Vec<Seed>,
}

#[derive(Clone, Debug, Default)]
struct Seed {
    /// Since this broker started.
    said: Option<Said>,
    /// Where its listener for brokers was when it was last asked.
    peer: Option<Address>,
    /// Why it was of no use then.
    failure: Option<String>,
}

/// What a seed has said of its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Nothing,
    Ours,
    Other(Text),
}

impl Seeds {
    pub fn new(count: usize) -> Seeds {
        Seeds { next: 0, by_number: vec![Seed::default(); count] }
    }

    /// One is of this broker's cluster, or none says anything.
    pub fn have_nothing_against_it(&self) -> bool {
        let mut said = self.by_number.iter().map(|seed| &seed.said);
        said.clone().any(|said| *said == Some(Said::Ours)) || said.all(|said| *said == Some(Said::Nothing))
    }

    /// The listener for brokers of one that is of use.
    pub fn peer(&self) -> Option<Address> {
        self.by_number.iter().filter(|seed| seed.failure.is_none()).find_map(|seed| seed.peer.clone())
    }

    /// All have been asked, and this is the first that is of another cluster, while none is of this broker's.
    fn other_cluster(&self) -> Option<(usize, &Text)> {
        let is_asked = self.by_number.iter().all(|seed| seed.said.as_ref().is_some_and(|said| *said != Said::Ours));
        let mut seeds = self.by_number.iter().enumerate().filter(|_| is_asked);
        seeds.find_map(|(at, seed)| match &seed.said {
            Some(Said::Other(cluster_id)) => Some((at, cluster_id)),
            _ => None,
        })
    }
}

impl Shard {
    /// Asks one seed after the other, each time.
    pub(in crate::broker) fn ask_next_seed(&mut self, now: Now, effects: &mut Effects) {
        let seeds = &mut self.cluster.seeds;
        let at = seeds.next % seeds.by_number.len();
        seeds.next = at + 1;
        self.ask_seed(at, now, effects);
    }

    /// Asks all seeds.
    pub(in crate::broker) fn ask_seeds(&mut self, now: Now, effects: &mut Effects) {
        (0..self.cluster.seeds.by_number.len()).for_each(|at| self.ask_seed(at, now, effects));
    }

    fn ask_seed(&mut self, at: usize, now: Now, effects: &mut Effects) {
        let to = PeerTo::Seed(self.config.settings.seeds[at].clone());
        let body = DescribeClusterRequest { endpoint_type: ENDPOINT_PEER, ..DescribeClusterRequest::default() };
        self.ask_peer(to, PeerCall::Seed(at), DESCRIBE_VERSION, &body, now, effects);
    }

    pub(in crate::broker) fn on_seed_answer(
        &mut self,
        at: usize,
        answer: Result<PeerAnswer, PeerError>,
        now: Now,
        effects: &mut Effects,
    ) {
        if answer == Err(PeerError::LeftAlone) {
            return;
        }
        let reply = answer.and_then(PeerAnswer::decode::<DescribeClusterResponse>).map_err(|error| error.to_string());
        let ours = self.own_cluster_id();
        let said = match &reply {
            Ok(reply) if reply.cluster_id.is_empty() => Said::Nothing,
            Ok(reply) if ours.is_empty() || ours == reply.cluster_id.as_str() => Said::Ours,
            Ok(reply) => Said::Other(reply.cluster_id.clone()),
            Err(_) => Said::Nothing,
        };
        let found = reply.and_then(|reply| match &said {
            Said::Other(theirs) => Err(format!("it is of cluster {theirs}, not of {ours}")),
            Said::Ours | Said::Nothing => peer_listener(&reply),
        });
        self.cluster.seeds.by_number[at].said = Some(said);
        if self.cluster.is_joining() {
            self.join_through(at, found, now, effects);
        }
        self.judge_seeds(&ours, effects);
        self.let_clients_in(now, effects);
    }

    /// Of the cluster that this broker is of, or is to be of; empty: of any.
    fn own_cluster_id(&self) -> String {
        let known = self.control.as_ref().map_or("", |control| control.quorum.committed().cluster_id());
        let own = if known.is_empty() { self.config.settings.cluster_id.as_str() } else { known };
        own.to_owned()
    }

    fn join_through(&mut self, at: usize, found: Result<Address, String>, now: Now, effects: &mut Effects) {
        let address = &self.config.settings.seeds[at];
        let seed = &mut self.cluster.seeds.by_number[at];
        let peer = match found {
            Ok(peer) => peer,
            Err(why) => {
                if seed.failure.as_ref() != Some(&why) {
                    tracing::warn!("nobody can join through the seed {address}: {why}");
                }
                seed.failure = Some(why);
                return;
            }
        };
        seed.failure = None;
        let before = seed.peer.replace(peer.clone()).filter(|before| *before != peer);
        if let Some(before) = before {
            self.forget_links(|to| *to == PeerTo::Address(before.clone()), now, effects);
        }
        self.register_with(PeerTo::Address(peer), now, effects);
    }

    /// Stops where the seeds are of another cluster.
    fn judge_seeds(&self, ours: &str, effects: &mut Effects) {
        let Some((at, theirs)) = self.cluster.seeds.other_cluster() else { return };
        let settings = &self.config.settings;
        let (dir, seed) = (settings.data_dir.display(), &settings.seeds[at]);
        let message = if self.cluster.is_joining() {
            format!(
                "cluster.id is {ours}, and the seed {seed} is a broker of cluster {theirs}: set cluster.id to that or \
                 leave it out, or name other seeds"
            )
        } else {
            format!(
                "the data directory {dir} belongs to cluster {ours}, and the seed {seed} is a broker of cluster \
                 {theirs}: to join that one choose an empty directory (--data-dir), to go on as a broker of {ours} name \
                 seeds of its own, or none; nothing was changed"
            )
        };
        effects.push(Effect::Fatal { message });
    }
}

/// Where the seed that answers listens for brokers. Errors say why that is not known.
fn peer_listener(reply: &DescribeClusterResponse) -> Result<Address, String> {
    match ErrorCode::from_code(reply.error_code) {
        Some(ErrorCode::None) => {}
        Some(ErrorCode::UnsupportedEndpointType) => {
            return Err("it is a Kafka broker of another kind; seeds are brokers of Corelog".to_owned());
        }
        Some(code) => return Err(reply.error_message.as_ref().map_or(code.message(), |text| text.as_str()).to_owned()),
        None => return Err(format!("it answers with error {}", reply.error_code)),
    }
    let listener = reply.brokers.first();
    let listener = listener.ok_or("it has no listener for brokers: it must be started with --peer-listen")?;
    let port = u16::try_from(listener.port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("it has its listener for brokers at port {}", listener.port))?;
    Ok(Address { host: listener.host.to_string(), port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::describe_cluster::DescribeClusterBroker;

    #[test]
    fn what_a_seed_answers_names_its_listener_or_says_why_there_is_none() {
        let at = |host: &str, port| DescribeClusterBroker { host: host.into(), port, ..Default::default() };
        let check = |error_code, brokers: &[DescribeClusterBroker], expect: Result<&str, &str>| {
            let reply = DescribeClusterResponse { error_code, brokers: brokers.to_vec(), ..Default::default() };
            let found = peer_listener(&reply).map(|address| address.to_string());
            match (&found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(why), Err(expect)) => assert!(why.contains(expect), "{why}"),
                _ => panic!("{found:?}, not {expect:?}"),
            }
        };
        check(0, &[at("10.0.0.1", 4000)], Ok("10.0.0.1:4000"));
        check(0, &[], Err("--peer-listen"));
        check(0, &[at("a", 0)], Err("port 0"));
        check(0, &[at("a", 70_000)], Err("port 70000"));
        check(ErrorCode::UnsupportedEndpointType.code(), &[], Err("seeds are brokers of Corelog"));
        check(ErrorCode::ClusterAuthorizationFailed.code(), &[], Err("Not allowed"));
        check(-77, &[], Err("error -77"));
    }
}
