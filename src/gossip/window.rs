//! Which numbers of a sequence were seen: the highest, and some below it.
//!
//! *Owns*: that no number passes twice. *Never*: remembers more than a word. *Runs on*: core 0.

/// Numbers this far below the highest are too old to be told apart.
const WIDTH: u64 = u64::BITS as u64;

#[derive(Clone, Copy, Default, Debug)]
pub struct Window {
    highest: u64,
    /// Bit `i` is set when `highest - i` was seen.
    seen: u64,
}

impl Window {
    /// Whether `number` is new; then it is not any more. Numbers begin at 1.
    pub fn accept(&mut self, number: u64) -> bool {
        if number == 0 {
            return false;
        }
        if number > self.highest {
            let ahead = number - self.highest;
            self.seen = if ahead < WIDTH { self.seen << ahead | 1 } else { 1 };
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        let is_new = behind < WIDTH && self.seen >> behind & 1 == 0;
        if is_new {
            self.seen |= 1 << behind;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_passes_once_and_old_ones_do_not() {
        let mut window = Window::default();
        for (number, expect) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (66, true),
            (3, false),
            (2, false),
            (4, true),
            (67, true),
            (3, false),
            (u64::MAX, true),
            (u64::MAX, false),
            (u64::MAX - 63, true),
            (u64::MAX - 64, false),
            (68, false),
        ] {
            assert_eq!(window.accept(number), expect, "{number}");
        }
    }
}
