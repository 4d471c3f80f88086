//! Colours, for those who see them.
//!
//! *Owns*: which colour means what. *Never*: decides whether there are colours. *Runs on*: any thread.

#[derive(Clone, Copy, Debug)]
pub struct Paint {
    pub is_coloured: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn warn(&self, text: &str) -> String {
        self.with("1;33", text)
    }

    pub fn head(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }
}
