//! The mesh: how the cores of a process hand each other messages.
//!
//! Each ordered pair of cores has a lane, a bounded queue in shared memory. What does not fit stays in the sender's
//! outbox, in order, until the receiver has made room and wakes the sender: nothing is lost, and no core ever waits
//! for another. A core with something in a lane is woken by a byte in a socket, one for all lanes and messages since
//! it last looked.
//!
//! *Owns*: lanes, outboxes and wakes. *Never*: looks into a message. *Runs on*: every core; the lanes are the only
//! memory that two cores write to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::ids::CoreId;

/// Messages waiting in one lane.
const LANE_MESSAGES_MAX: usize = 1024;

/// The lanes between all cores, and each core's wake.
#[derive(Debug)]
pub struct Lanes<M> {
    cores: usize,
    /// From core f to core t at `f * cores + t`.
    lanes: Vec<Lane<M>>,
    wakes: Vec<Wake>,
}

#[derive(Debug)]
struct Lane<M> {
    queue: Mutex<VecDeque<M>>,
    /// The sender has more and wants to be woken when there is room.
    sender_waits: AtomicBool,
}

#[derive(Debug)]
struct Wake {
    /// A byte was sent that the core has not taken yet.
    given: AtomicBool,
    socket: UnixStream,
}

/// One core's end of the mesh.
#[derive(Debug)]
pub struct Mesh<M> {
    core: CoreId,
    lanes: Arc<Lanes<M>>,
    /// By receiver. What a lane had no room for. Bounded by what clients may have in flight.
    outboxes: Vec<RefCell<VecDeque<M>>>,
}

impl<M> Lanes<M> {
    /// Also returns, for each core, the socket on which it is woken.
    pub fn new(cores: usize) -> io::Result<(Arc<Lanes<M>>, Vec<UnixStream>)> {
        let mut wakes = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..cores {
            let (socket, theirs) = UnixStream::pair()?;
            socket.set_nonblocking(true)?;
            wakes.push(Wake { given: AtomicBool::new(false), socket });
            sockets.push(theirs);
        }
        let lane = || Lane { queue: Mutex::new(VecDeque::new()), sender_waits: AtomicBool::new(false) };
        let lanes = (0..cores * cores).map(|_| lane()).collect();
        Ok((Arc::new(Lanes { cores, lanes, wakes }), sockets))
    }

    fn lane(&self, from: CoreId, to: CoreId) -> &Lane<M> {
        &self.lanes[usize::from(from.0) * self.cores + usize::from(to.0)]
    }

    fn wake(&self, core: CoreId) {
        let wake = &self.wakes[usize::from(core.0)];
        if !wake.given.swap(true, Ordering::AcqRel) {
            // The one error possible is that the core has ended, and then nobody waits for it.
            let _ = (&wake.socket).write(&[1]);
        }
    }
}

impl<M> Mesh<M> {
    pub fn new(core: CoreId, lanes: Arc<Lanes<M>>) -> Mesh<M> {
        let outboxes = (0..lanes.cores).map(|_| RefCell::default()).collect();
        Mesh { core, lanes, outboxes }
    }

    /// Leaves with the next [`Mesh::flush`].
    pub fn push(&self, to: CoreId, message: M) {
        assert!(to != self.core, "a core does not send to itself");
        self.outboxes[usize::from(to.0)].borrow_mut().push_back(message);
    }

    /// Moves what was pushed into the lanes, as far as there is room, and wakes the receivers.
    pub fn flush(&self) {
        for (to, outbox) in self.outboxes.iter().enumerate() {
            let mut outbox = outbox.borrow_mut();
            if outbox.is_empty() {
                continue;
            }
            let to = CoreId(to as u16);
            let lane = self.lanes.lane(self.core, to);
            let mut queue = lock(&lane.queue);
            let room = LANE_MESSAGES_MAX - queue.len();
            let count = room.min(outbox.len());
            queue.extend(outbox.drain(..count));
            if !outbox.is_empty() {
                lane.sender_waits.store(true, Ordering::Release);
            }
            drop(queue);
            self.lanes.wake(to);
        }
    }

    /// To be called before the lanes are looked at: messages put there from now on give a new wake.
    pub fn take_wake(&self) {
        self.lanes.wakes[usize::from(self.core.0)].given.store(false, Ordering::SeqCst);
    }

    /// Everything in the lane from one core.
    pub fn receive(&self, from: CoreId) -> VecDeque<M> {
        if from == self.core {
            return VecDeque::new();
        }
        let lane = self.lanes.lane(from, self.core);
        let mut queue = lock(&lane.queue);
        let messages = std::mem::take(&mut *queue);
        let sender_waits = lane.sender_waits.swap(false, Ordering::AcqRel);
        drop(queue);
        if sender_waits {
            self.lanes.wake(from);
        }
        messages
    }

    pub fn cores(&self) -> impl Iterator<Item = CoreId> + use<M> {
        (0..self.lanes.cores as u16).map(CoreId)
    }
}

/// A panic takes the process down, so a poisoned lane is never used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::thread;

    fn wait(socket: &mut UnixStream) {
        let mut byte = [0; 1];
        socket.read_exact(&mut byte).expect("a wake");
    }

    #[test]
    fn a_full_lane_loses_nothing_keeps_the_order_and_wakes_the_sender_again() {
        let (lanes, sockets) = Lanes::new(2).expect("lanes");
        let [mut sender_wakes, mut receiver_wakes] = <[UnixStream; 2]>::try_from(sockets).expect("two");
        let count = 10 * LANE_MESSAGES_MAX + 1;
        let receiver_lanes = lanes.clone();
        let receiver = thread::spawn(move || {
            let mesh = Mesh::new(CoreId(1), receiver_lanes);
            let mut received = Vec::new();
            while received.len() < count {
                wait(&mut receiver_wakes);
                mesh.take_wake();
                let messages = mesh.receive(CoreId(0));
                assert!(messages.len() <= LANE_MESSAGES_MAX);
                received.extend(messages);
            }
            received
        });
        let mesh = Mesh::new(CoreId(0), lanes);
        for i in 0..count {
            mesh.push(CoreId(1), i);
        }
        mesh.flush();
        while !mesh.outboxes[1].borrow().is_empty() {
            wait(&mut sender_wakes);
            mesh.take_wake();
            mesh.flush();
        }
        let received = receiver.join().expect("the receiver ends");
        assert!(received.into_iter().eq(0..count));
    }

    #[test]
    fn both_directions_full_at_once_do_not_stop_each_other() {
        let (lanes, sockets) = Lanes::new(2).expect("lanes");
        let count = 5 * LANE_MESSAGES_MAX;
        let ends = sockets.into_iter().enumerate().map(|(core, mut wakes)| {
            let lanes = lanes.clone();
            thread::spawn(move || {
                let other = CoreId(1 - core as u16);
                let mesh = Mesh::new(CoreId(core as u16), lanes);
                (0..count).for_each(|i| mesh.push(other, i));
                mesh.flush();
                let mut received = Vec::new();
                while received.len() < count || !mesh.outboxes[usize::from(other.0)].borrow().is_empty() {
                    wait(&mut wakes);
                    mesh.take_wake();
                    received.extend(mesh.receive(other));
                    mesh.flush();
                }
                assert!(received.into_iter().eq(0..count));
            })
        });
        for end in ends.collect::<Vec<_>>() {
            end.join().expect("both ends end");
        }
    }
}
