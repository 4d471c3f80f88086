//! `corelog cluster move`, `drain`, `balance` and `unregister`: where partitions are to be.
//!
//! *Owns*: the commands, and their plan as people and programs see it. *Never*: moves anything without `--execute`;
//! chooses brokers (`spread` does). *Runs on*: the main thread.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgGroup, Command, value_parser};
use serde_json::{Value, json};

use crate::admin::cluster_throttle::{Copies, Throttle, parse_rate};
use crate::admin::selection::{chosen, selections, topic_argument};
use crate::admin::spread::{Brokers, Places, balance, balance_preferred, drain};
use crate::admin::tool::{Asked, Failure, NOTHING_CHANGED, Said, execute_argument, refusal_json, switch};
use crate::admin::topic::name_of;
use crate::base::ids::NodeId;
use crate::client::client::Client;
use crate::client::error::Refusal;
use crate::client::offsets::TopicPartition;
use crate::terminal::numbers::{bytes, counted};
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};
use crate::wire::errors::ErrorCode;

/// How often it is looked whether everything has moved.
const LOOK: Duration = Duration::from_millis(500);

const JSON: &str = "\
--json prints an object with executed, partitions: an array of objects with topic, partition, before, after (the ids of
brokers, the preferred leader first; after is null where a move is called off), copyBytes (null where not known), error
(null, or an object with code and message).";

pub fn move_command() -> Command {
    let to = Arg::new("to").long("to").value_name("BROKER,…").value_delimiter(',').value_parser(value_parser!(i32));
    let command = Command::new("move")
        .about("Say which partitions would move to which brokers, and with --execute move them")
        .arg(topic_argument().required(true))
        .arg(to.help("Brokers that are to have them, the preferred leader first"))
        .arg(switch("cancel", "Call off a move that is under way"))
        .group(ArgGroup::new("what").args(["to", "cancel"]).required(true));
    with_execution(command).after_help(format!(
        "{JSON}\n\nExamples:\n  corelog cluster move --topic orders:0,4-7 --to 2,3,1\n  \
         corelog cluster move --topic orders --to 4,5 --execute --wait --throttle 50MiB\n  \
         corelog cluster move --topic orders --cancel --execute"
    ))
}

pub fn drain_command() -> Command {
    let command = Command::new("drain")
        .about("Say where everything on a broker would go, and with --execute move it there")
        .arg(broker_argument());
    with_execution(command).after_help(format!(
        "New topics may still be put on the broker. When it is empty, stop it, and take it out with \
         `corelog cluster unregister`.\n\n{JSON}\n\n\
         Examples:\n  corelog cluster drain 3\n  corelog cluster drain 3 --execute --wait"
    ))
}

pub fn balance_command() -> Command {
    let command = Command::new("balance")
        .about("Say what would give every broker its share, and with --execute do it")
        .arg(switch("leaders", "Only change which replica leads; nothing is copied"));
    with_execution(command).after_help(format!(
        "Brokers get equally many replicas and leaders, by moving as few as it takes; no partition is in fewer racks \
         than before.\n\n{JSON}\n\n\
         Examples:\n  corelog cluster balance\n  corelog cluster balance --leaders --execute"
    ))
}

pub fn unregister_command() -> Command {
    Command::new("unregister")
        .about("Take a broker that will not come back out of the cluster")
        .arg(broker_argument())
        .arg(switch("force", "Also one that has replicas; their partitions miss them until they are moved"))
        .after_help("--json prints an object with broker, done.\n\nExamples:\n  corelog cluster unregister 3")
}

fn broker_argument() -> Arg {
    Arg::new("broker").value_name("BROKER").required(true).value_parser(value_parser!(i32)).help("The id of a broker")
}

fn with_execution(command: Command) -> Command {
    command
        .arg(execute_argument())
        .arg(switch("wait", "With --execute: end when everything has moved").requires("execute"))
        .arg(
            Arg::new("throttle")
                .long("throttle")
                .value_name("BYTES")
                .value_parser(parse_rate)
                .requires("wait")
                .help("With --wait: bytes a second that each broker sends and takes of what is copied, such as 50MiB"),
        )
}

pub fn run_move(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let selections = selections(asked);
    let wanted = chosen(asked, &selections)?;
    let to: Option<Vec<NodeId>> = asked.matches.get_many("to").map(|ids| ids.copied().map(NodeId).collect());
    let holdings = Holdings::take(&mut asked.client)?;
    let mut plan = Plan::default();
    for place in wanted {
        let is_there = to.as_ref().is_some_and(|to| holdings.places.get(&place) == Some(to));
        if !is_there {
            plan.add(&holdings, place, to.clone());
        }
    }
    plan.carry_out(asked)
}

pub fn run_drain(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let broker = broker(asked);
    let holdings = Holdings::take(&mut asked.client)?;
    holdings.check(broker)?;
    let moved = drain(&holdings.places, &holdings.brokers, broker).map_err(Failure::NotDone)?;
    Plan::of(&holdings, moved).carry_out(asked)
}

pub fn run_balance(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let holdings = Holdings::take(&mut asked.client)?;
    let moved = match asked.flag("leaders") {
        true => balance_preferred(&holdings.places, &holdings.brokers),
        false => balance(&holdings.places, &holdings.brokers),
    };
    let mut plan = Plan::of(&holdings, moved);
    // The others stay where they are, and may be led by another than the preferred replica.
    for (place, replicas) in &holdings.places {
        let leads = holdings.leaders.get(place) == replicas.first();
        if !leads && !plan.0.contains_key(place) && replicas.iter().all(|node| holdings.brokers.contains_key(node)) {
            plan.add(&holdings, place.clone(), Some(replicas.clone()));
        }
    }
    plan.carry_out(asked)
}

pub fn run_unregister(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let broker = broker(asked);
    let holdings = Holdings::take(&mut asked.client)?;
    let has = holdings.places.values().filter(|replicas| replicas.contains(&broker)).count();
    if has > 0 && !asked.flag("force") {
        let replicas = counted(has as u64, "replica");
        let message = format!("broker {broker} has {replicas}: `corelog cluster drain {broker}` first, or add --force");
        return Err(Failure::NotDone(message));
    }
    match asked.client.unregister(broker.0)? {
        Ok(()) => Ok(Said {
            text: format!("Broker {broker} is out of the cluster.\n"),
            json: json!({ "broker": broker.0, "done": true }),
            is_done: true,
        }),
        Err(refusal) => Err(Failure::NotDone(format!("broker {broker}: {refusal}"))),
    }
}

fn broker(asked: &Asked<'_>) -> NodeId {
    NodeId(*asked.matches.get_one("broker").expect("clap asks for it"))
}

/// What there is, and where.
struct Holdings {
    /// That are there.
    brokers: Brokers,
    /// With those that are not.
    known: BTreeSet<NodeId>,
    /// Of those being moved, where they will be.
    places: Places,
    leaders: BTreeMap<TopicPartition, NodeId>,
    sizes: BTreeMap<TopicPartition, u64>,
}

impl Holdings {
    fn take(client: &mut Client) -> Result<Holdings, Failure> {
        let cluster = client.cluster()?;
        let topics = client.topics(None)?;
        let moving = client.moving()?;
        let (mut places, mut leaders) = (Places::new(), BTreeMap::new());
        for topic in &topics {
            for row in &topic.partitions {
                let place = TopicPartition { topic: name_of(topic).to_owned(), partition: row.partition_index };
                let leaves = |id: &i32| moving.get(&place).is_some_and(|row| row.removing_replicas.contains(id));
                let stay = row.replica_nodes.iter().filter(|id| !leaves(id));
                let replicas = stay.copied().map(NodeId).collect();
                leaders.insert(place.clone(), NodeId(row.leader_id));
                places.insert(place, replicas);
            }
        }
        let there = cluster.brokers.iter().filter(|broker| !broker.is_fenced);
        let rack = |rack: &Option<crate::wire::text::Text>| rack.as_deref().map(str::to_owned);
        let brokers: Brokers = there.map(|broker| (NodeId(broker.broker_id), rack(&broker.rack))).collect();
        let known = cluster.brokers.iter().map(|broker| NodeId(broker.broker_id)).collect();
        let mut sizes = BTreeMap::new();
        for id in brokers.keys() {
            // A plan without sizes is a plan too.
            for topic in client.log_dirs(id.0).into_iter().flatten().flat_map(|dir| dir.topics) {
                for row in topic.partitions {
                    let place = TopicPartition { topic: topic.name.to_string(), partition: row.partition_index };
                    let size = u64::try_from(row.partition_size).unwrap_or(0);
                    let known: &mut u64 = sizes.entry(place).or_default();
                    *known = size.max(*known);
                }
            }
        }
        Ok(Holdings { brokers, known, places, leaders, sizes })
    }

    fn check(&self, broker: NodeId) -> Result<(), Failure> {
        if self.known.contains(&broker) || self.places.values().any(|replicas| replicas.contains(&broker)) {
            return Ok(());
        }
        let ids: Vec<String> = self.known.iter().map(NodeId::to_string).collect();
        Err(Failure::NotDone(format!("there is no broker {broker}: the brokers are {}", ids.join(", "))))
    }
}

/// What is to change, and what became of it.
#[derive(Default)]
struct Plan(BTreeMap<TopicPartition, Row>);

struct Row {
    before: Vec<NodeId>,
    leader: Option<NodeId>,
    /// `None`: a move is called off.
    after: Option<Vec<NodeId>>,
    /// Of one copy.
    size: Option<u64>,
    refusal: Option<Refusal>,
}

impl Row {
    /// Copies to be made.
    fn copies(&self) -> usize {
        let new = |node: &&NodeId| !self.before.contains(node);
        self.after.iter().flatten().filter(new).count()
    }

    fn copy_bytes(&self) -> Option<u64> {
        match self.copies() {
            0 => Some(0),
            copies => self.size.map(|size| size * copies as u64),
        }
    }
}

impl Plan {
    fn of(holdings: &Holdings, moved: Places) -> Plan {
        let mut plan = Plan::default();
        moved.into_iter().for_each(|(place, after)| plan.add(holdings, place, Some(after)));
        plan
    }

    fn add(&mut self, holdings: &Holdings, place: TopicPartition, after: Option<Vec<NodeId>>) {
        let before = holdings.places.get(&place).cloned().unwrap_or_default();
        let (leader, size) = (holdings.leaders.get(&place).copied(), holdings.sizes.get(&place).copied());
        self.0.insert(place, Row { before, leader, after, size, refusal: None });
    }

    /// Says what there is to do; does it, where that is wished.
    fn carry_out(mut self, asked: &mut Asked<'_>) -> Result<Said, Failure> {
        let execute = asked.flag("execute") && !self.0.is_empty();
        if execute {
            let rate = asked.matches.get_one::<u64>("throttle").copied();
            let throttle = rate.map(|rate| Throttle::begin(&mut asked.client, rate, &self.copies())).transpose()?;
            let executed = self.execute(&mut asked.client, asked.matches.get_flag("wait"));
            throttle.map_or(Ok(()), |throttle| throttle.end(&mut asked.client))?;
            executed?;
        }
        let is_done = self.0.values().all(|row| row.refusal.is_none());
        let text = self.text(asked.paint, execute);
        Ok(Said { text, json: json!({ "executed": execute, "partitions": self.json() }), is_done })
    }

    fn copies(&self) -> Vec<Copies> {
        let copied = self.0.iter().filter(|(_, row)| row.copies() > 0);
        let copies = copied.map(|(place, row)| {
            let new = |node: &&NodeId| !row.before.contains(node);
            let to = row.after.iter().flatten().filter(new).copied().collect();
            Copies { place: place.clone(), from: row.before.clone(), to }
        });
        copies.collect()
    }

    fn execute(&mut self, client: &mut Client, wait: bool) -> Result<(), Failure> {
        let ids = |nodes: &Vec<NodeId>| nodes.iter().map(|node| node.0).collect::<Vec<i32>>();
        let moves = self.0.iter().filter(|(_, row)| row.after.as_ref() != Some(&row.before));
        let wishes = moves.map(|(place, row)| (place.clone(), row.after.as_ref().map(ids))).collect();
        for (place, result) in client.move_partitions(&wishes)? {
            if let (Some(row), Err(refusal)) = (self.0.get_mut(&place), result) {
                row.refusal = Some(refusal);
            }
        }
        if wait {
            while client.moving()?.keys().any(|place| self.0.contains_key(place)) {
                thread::sleep(LOOK);
            }
        }
        // Of the others the new leader has nothing yet: the brokers give it the leadership themselves, later.
        let can_lead = |row: &Row| row.refusal.is_none() && row.after.is_some() && (wait || row.copies() == 0);
        let there: Vec<TopicPartition> =
            self.0.iter().filter(|(_, row)| can_lead(row)).map(|(place, _)| place.clone()).collect();
        if there.is_empty() {
            return Ok(());
        }
        for (place, result) in client.elect_preferred(&there)? {
            let refusal = result.err().filter(|refusal| refusal.error() != Some(ErrorCode::ElectionNotNeeded));
            if let (Some(row), Some(refusal)) = (self.0.get_mut(&place), refusal) {
                row.refusal = Some(refusal);
            }
        }
        Ok(())
    }

    fn text(&self, paint: Paint, executed: bool) -> String {
        if self.0.is_empty() {
            return "There is nothing to do.\n".to_owned();
        }
        let mut table = Table::new(&["TOPIC", ">PARTITION", "BEFORE", "AFTER", ">TO COPY", "NOTE"]);
        for (place, row) in &self.0 {
            let note = match (&row.refusal, &row.after) {
                (Some(refusal), _) => Cell::bad(refusal.to_string()),
                (None, None) => "called off".into(),
                (None, Some(after)) if after.first() != row.leader.as_ref() => "another leader".into(),
                (None, Some(_)) => "".into(),
            };
            table.row([
                place.topic.as_str().into(),
                place.partition.to_string().into(),
                list(&row.before).into(),
                row.after.as_ref().map_or_else(|| "–".to_owned(), |after| list(after)).into(),
                row.copy_bytes().map_or_else(String::new, bytes).into(),
                note,
            ]);
        }
        let copies: usize = self.0.values().map(Row::copies).sum();
        let total: u64 = self.0.values().filter_map(Row::copy_bytes).sum();
        let partitions = counted(self.0.len() as u64, "partition");
        let end = if executed { "" } else { NOTHING_CHANGED };
        format!(
            "{}\n{partitions}, {} to copy: {}.\n{end}",
            table.text(paint),
            counted(copies as u64, "replica"),
            bytes(total)
        )
    }

    fn json(&self) -> Value {
        let ids = |nodes: &Vec<NodeId>| nodes.iter().map(|node| node.0).collect::<Vec<i32>>();
        let row = |(place, row): (&TopicPartition, &Row)| {
            json!({
                "topic": place.topic,
                "partition": place.partition,
                "before": ids(&row.before),
                "after": row.after.as_ref().map(ids),
                "copyBytes": row.copy_bytes(),
                "error": row.refusal.as_ref().map(refusal_json),
            })
        };
        self.0.iter().map(row).collect()
    }
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_plan_says_what_would_be_copied() {
        let place = |partition| TopicPartition { topic: "t".into(), partition };
        let holdings = Holdings {
            brokers: Brokers::new(),
            known: BTreeSet::from([NodeId(1), NodeId(2)]),
            places: (0..3).map(|partition| (place(partition), nodes(&[1, 2]))).collect(),
            leaders: (0..3).map(|partition| (place(partition), NodeId(1))).collect(),
            sizes: BTreeMap::from([(place(0), 1_000_000)]),
        };
        let mut plan = Plan::default();
        plan.add(&holdings, place(0), Some(nodes(&[3, 4])));
        plan.add(&holdings, place(1), Some(nodes(&[2, 1])));
        plan.add(&holdings, place(2), None);
        plan.0.get_mut(&place(1)).expect("added").refusal = Refusal::of(80, Some("it is away"));
        let expect = "\
TOPIC  PARTITION  BEFORE  AFTER  TO COPY  NOTE
t              0  1,2     3,4    2.00 MB  another leader
t              1  1,2     2,1        0 B  PREFERRED_LEADER_NOT_AVAILABLE: it is away
t              2  1,2     –          0 B  called off

3 partitions, 2 replicas to copy: 2.00 MB.
";
        assert_eq!(plan.text(Paint { is_coloured: false }, true), expect);
        assert_eq!(plan.text(Paint { is_coloured: false }, false), format!("{expect}{NOTHING_CHANGED}"));
        let row =
            json!({ "topic": "t", "partition": 2, "before": [1, 2], "after": null, "copyBytes": 0, "error": null });
        assert_eq!(plan.json()[2], row);
        assert_eq!(Plan::default().text(Paint { is_coloured: false }, false), "There is nothing to do.\n");
        assert!(holdings.check(NodeId(2)).is_ok() && holdings.check(NodeId(9)).is_err());
    }
}
