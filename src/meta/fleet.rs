//! The brokers as plans see them: who is there, and who may lead.
//!
//! Where nobody has registered, this broker is alone: it has whatever there is, and always may lead.
//!
//! *Owns*: that reading of the image. *Never*: changes it. *Runs on*: core 0.

use super::broker::Broker;
use super::image::Image;
use crate::base::ids::NodeId;

#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    pub image: &'a Image,
    me: NodeId,
}

/// A broker that new replicas may be put on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usable {
    pub id: NodeId,
    pub rack: Option<String>,
    pub fenced: bool,
}

impl<'a> Fleet<'a> {
    /// `me` is this broker.
    pub fn of(image: &'a Image, me: NodeId) -> Fleet<'a> {
        Fleet { image, me }
    }

    pub fn is_registered(self, id: NodeId) -> bool {
        self.image.broker(id).is_some() || self.is_alone(id)
    }

    /// Whether a broker may lead, and be in an ISR.
    pub fn is_active(self, id: NodeId) -> bool {
        self.image.broker(id).is_some_and(Broker::is_active) || self.is_alone(id)
    }

    /// By their ids; without those about to go, as in Kafka's `ClusterControlManager.usableBrokers`.
    pub fn usable(self) -> Vec<Usable> {
        let registered = self.image.brokers().filter(|broker| !broker.shutting_down);
        let usable =
            registered.map(|broker| Usable { id: broker.id, rack: broker.rack.clone(), fenced: broker.fenced });
        let alone = self.is_alone(self.me).then_some(Usable { id: self.me, rack: None, fenced: false });
        usable.chain(alone).collect()
    }

    fn is_alone(self, id: NodeId) -> bool {
        id == self.me && !self.image.has_brokers()
    }
}
