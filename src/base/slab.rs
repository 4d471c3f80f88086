//! A slab: values under small reusable keys, with a generation so that a stale key finds nothing.
//!
//! *Owns*: the values. *Never*: iterates in an order that depends on anything but the calls made. *Runs on*: every
//! core.

/// A key of a [`Slab`]: index and generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(u64);

#[derive(Debug)]
pub struct Slab<T> {
    rows: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { rows: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let row = &mut self.rows[index as usize];
            debug_assert!(row.1.is_none());
            row.1 = Some(value);
            return key(index, row.0);
        }
        let index = u32::try_from(self.rows.len()).expect("a bounded queue holds fewer than 2^32 values");
        self.rows.push((0, Some(value)));
        key(index, 0)
    }

    pub fn get(&self, at: Key) -> Option<&T> {
        let row = self.rows.get(index(at))?;
        if row.0 == generation(at) { row.1.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, at: Key) -> Option<&mut T> {
        let row = self.rows.get_mut(index(at))?;
        if row.0 == generation(at) { row.1.as_mut() } else { None }
    }

    pub fn remove(&mut self, at: Key) -> Option<T> {
        let row = self.rows.get_mut(index(at))?;
        if row.0 != generation(at) {
            return None;
        }
        let value = row.1.take()?;
        row.0 = row.0.wrapping_add(1);
        self.free.push(index(at) as u32);
        Some(value)
    }

    /// The keys of the values that match, in slab order.
    pub fn keys_where(&self, matches: impl Fn(&T) -> bool) -> Vec<Key> {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, (_, value))| value.as_ref().is_some_and(&matches))
            .map(|(at, (generation, _))| key(at as u32, *generation))
            .collect()
    }

    pub fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn key(index: u32, generation: u32) -> Key {
    Key(u64::from(generation) << 32 | u64::from(index))
}

fn index(key: Key) -> usize {
    key.0 as u32 as usize
}

fn generation(key: Key) -> u32 {
    (key.0 >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::default();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b");
        assert_ne!(a, b);
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get(b), Some(&"b"));
        assert_eq!(slab.len(), 1);
    }
}
