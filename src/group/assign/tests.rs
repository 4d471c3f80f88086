//! What the assignors promise, for groups drawn at random, and a few groups a person can follow.

use super::*;
use crate::base::rng::Rng;

/// A spec that owns what it is about.
#[derive(Clone, Default, Debug)]
struct Case {
    /// Partitions of the topics, whose ids are their indices.
    topics: Vec<i32>,
    /// Topics, or whoever came first.
    members: Vec<Member>,
}

#[derive(Clone, Default, Debug)]
struct Member {
    id: String,
    instance_id: Option<String>,
    topics: Vec<u8>,
    previous: Assignment,
}

fn topic_id(topic: u8) -> TopicId {
    TopicId([topic; 16])
}

impl Case {
    fn spec(&self) -> Spec<'_> {
        let mut spec = Spec::default();
        for member in &self.members {
            let topics: Vec<TopicId> = member.topics.iter().map(|topic| topic_id(*topic)).collect();
            for (id, topic) in topics.iter().zip(&member.topics) {
                spec.topics.insert(*id, self.topics[usize::from(*topic)]);
            }
            let known = spec.subscriptions.iter().position(|known| *known == topics);
            let subscription = known.unwrap_or(spec.subscriptions.len());
            if known.is_none() {
                spec.subscriptions.push(topics);
            }
            let instance_id = member.instance_id.as_deref();
            spec.members.push(Subscriber { instance_id, subscription, previous: &member.previous });
        }
        spec
    }

    fn random(rng: &mut Rng, same_topics: bool) -> Case {
        let topics: Vec<i32> = (0..1 + rng.below(6)).map(|_| 1 + rng.below(9) as i32).collect();
        let mut case = Case { topics, members: Vec::new() };
        let all = case.random_topics(rng);
        for _ in 0..1 + rng.below(8) {
            let topics = if same_topics { all.clone() } else { case.random_topics(rng) };
            case.join(rng, topics);
        }
        case
    }

    fn random_topics(&self, rng: &mut Rng) -> Vec<u8> {
        (0..self.topics.len() as u8).filter(|_| rng.below(3) > 0).collect()
    }

    fn join(&mut self, rng: &mut Rng, topics: Vec<u8>) {
        let instance_id = (rng.below(3) == 0).then(|| format!("i{}", rng.next_u64()));
        let member = Member { id: format!("{:016x}", rng.next_u64()), instance_id, topics, ..Member::default() };
        self.members.push(member);
        self.members.sort_by(|a, b| a.id.cmp(&b.id));
    }

    fn assign(&mut self, assignor: Assignor) {
        let assignments = assign(assignor, &self.spec());
        assert_eq!(assign(assignor, &self.spec()), assignments, "the same again");
        for (member, assignment) in self.members.iter_mut().zip(assignments) {
            member.previous = assignment;
        }
    }

    fn loads(&self) -> Vec<usize> {
        self.members.iter().map(|member| member.previous.len()).collect()
    }

    /// Nothing twice, nothing without a subscription, nothing left.
    fn check_valid(&self) {
        let mut given = Assignment::default();
        for member in &self.members {
            assert!(member.previous.is_disjoint(&given), "{self:?}");
            given.extend(&member.previous);
            for (topic, partition) in member.previous.iter() {
                assert!(member.topics.contains(&topic.0[0]), "{self:?}");
                assert!((0..self.topics[usize::from(topic.0[0])]).contains(&partition.0), "{self:?}");
            }
        }
        let spec = self.spec();
        assert_eq!(given.len() as i32, spec.topics.values().sum::<i32>(), "{self:?}");
    }

    /// No partition could go to somebody who has two less.
    fn check_balanced(&self) {
        for giver in &self.members {
            for (topic, _) in giver.previous.iter() {
                for taker in self.members.iter().filter(|taker| taker.topics.contains(&topic.0[0])) {
                    assert!(giver.previous.len() <= taker.previous.len() + 1, "{self:?}");
                }
            }
        }
    }
}

#[test]
fn uniform_is_valid_and_balanced_whatever_happens_to_the_group() {
    for seed in 0..400 {
        let rng = &mut Rng::new(seed);
        let mut case = Case::random(rng, seed % 2 == 0);
        for _ in 0..6 {
            case.assign(Assignor::Uniform);
            case.check_valid();
            case.check_balanced();
            match rng.below(5) {
                0 => {
                    let topics = case.members[0].topics.clone();
                    case.join(rng, topics);
                }
                1 => {
                    let topics = case.random_topics(rng);
                    case.join(rng, topics);
                }
                2 if case.members.len() > 1 => drop(case.members.remove(0)),
                3 => case.topics[0] += 3,
                _ => {
                    let topics = case.random_topics(rng);
                    case.members[0].topics = topics;
                }
            }
        }
    }
}

#[test]
fn uniform_moves_nothing_when_nothing_changed() {
    for seed in 0..200 {
        let mut case = Case::random(&mut Rng::new(seed), seed % 2 == 0);
        case.assign(Assignor::Uniform);
        let before: Vec<Assignment> = case.members.iter().map(|member| member.previous.clone()).collect();
        case.assign(Assignor::Uniform);
        assert_eq!(case.members.iter().map(|member| member.previous.clone()).collect::<Vec<_>>(), before);
    }
}

#[test]
fn uniform_moves_the_fewest_when_all_subscribe_to_the_same() {
    for seed in 0..200 {
        let rng = &mut Rng::new(seed);
        let mut case = Case::random(rng, true);
        case.assign(Assignor::Uniform);
        let mut before = case.clone();
        if rng.below(2) == 0 || case.members.len() == 1 {
            let topics = case.members[0].topics.clone();
            case.join(rng, topics);
        } else {
            case.members.remove(0);
        }
        before.members.retain(|old| case.members.iter().any(|member| member.id == old.id));
        case.assign(Assignor::Uniform);
        let total: usize = case.loads().iter().sum();
        let members = case.members.len();
        let (least, extras) = (total / members, total % members);
        // Whoever had more keeps one more, as long as there is one more to keep.
        let had = before.loads();
        let over = had.iter().filter(|load| **load > least).count().min(extras);
        let keep: usize = had.iter().map(|load| *load.min(&least)).sum::<usize>() + over;
        let kept: usize = before
            .members
            .iter()
            .map(|old| {
                let member = case.members.iter().find(|member| member.id == old.id).expect("only leavers are gone");
                member.previous.intersection(&old.previous).len()
            })
            .sum();
        assert_eq!(kept, keep, "seed {seed}: {before:?} {case:?}");
    }
}

#[test]
fn uniform_gives_a_partition_that_two_had_to_one() {
    let previous = Assignment::from_lists([(topic_id(0), &[0, 1][..])]);
    let member = |id: &str| Member { id: id.into(), topics: vec![0], previous: previous.clone(), ..Member::default() };
    let mut case = Case { topics: vec![2], members: vec![member("a"), member("b")] };
    case.assign(Assignor::Uniform);
    case.check_valid();
    assert_eq!(case.loads(), [1, 1]);
}

#[test]
fn range_is_valid_and_the_same_for_equal_topics() {
    for seed in 0..200 {
        let rng = &mut Rng::new(seed);
        let mut case = Case::random(rng, seed % 2 == 0);
        if seed % 2 == 0 {
            case.topics.fill(7);
        }
        case.assign(Assignor::Range);
        case.check_valid();
        for member in &case.members {
            let lists: Vec<Vec<i32>> = member.previous.lists().map(|(_, list)| list).collect();
            assert!(lists.iter().all(|list| list.windows(2).all(|pair| pair[0] + 1 == pair[1])), "{case:?}");
            assert!(seed % 2 == 1 || lists.windows(2).all(|pair| pair[0] == pair[1]), "{case:?}");
        }
    }
}

#[test]
fn groups_a_person_can_follow() {
    /// Members as `id=topics` or `id@instance=topics`; the answer as `topic:partitions` of each.
    fn check(assignor: Assignor, topics: &[i32], members: &str, expect: &[&str]) {
        let mut case = Case { topics: topics.to_vec(), members: Vec::new() };
        for text in members.split(' ') {
            let (id, topics) = text.split_once('=').expect("id=topics");
            let (id, instance_id) = id.split_once('@').map_or((id, None), |(id, instance)| (id, Some(instance.into())));
            let topics = topics.bytes().map(|digit| digit - b'0').collect();
            case.members.push(Member { id: id.into(), instance_id, topics, ..Member::default() });
        }
        case.assign(assignor);
        let text = |member: &Member| {
            let lists = member.previous.lists().map(|(topic, list)| format!("{}:{list:?}", topic.0[0]));
            lists.collect::<Vec<_>>().join(" ").replace(", ", ",")
        };
        assert_eq!(case.members.iter().map(text).collect::<Vec<_>>(), expect, "{members}");
    }
    check(Assignor::Range, &[3, 3], "a=01 b=01", &["0:[0,1] 1:[0,1]", "0:[2] 1:[2]"]);
    check(Assignor::Range, &[3, 3], "a=01 b@x=01 c@w=01", &["0:[2] 1:[2]", "0:[1] 1:[1]", "0:[0] 1:[0]"]);
    check(Assignor::Range, &[2, 3], "a=0 b=01 c=1", &["0:[0]", "0:[1] 1:[0,1]", "1:[2]"]);
    check(Assignor::Range, &[2], "a=0 b=0 c=0", &["0:[0]", "0:[1]", ""]);
    check(Assignor::Uniform, &[3, 3], "a=01 b=01", &["0:[0,2] 1:[1]", "0:[1] 1:[0,2]"]);
    check(Assignor::Uniform, &[2], "a=0 b=0 c=0", &["0:[0]", "0:[1]", ""]);
    check(Assignor::Uniform, &[2, 4], "a=0 b=01 c=1", &["0:[0,1]", "1:[1,3]", "1:[0,2]"]);
    check(Assignor::Uniform, &[4], "a= b=0", &["", "0:[0,1,2,3]"]);
    assert_eq!(assign(Assignor::Uniform, &Spec::default()), []);
}
