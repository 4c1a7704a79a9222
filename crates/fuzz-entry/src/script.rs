//! Bytes as a script: numbers and choices are taken from the front. Behind the end everything is 0, so any bytes are a script.

/// The rest of a script.
#[derive(Clone, Copy)]
pub(crate) struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// Nothing is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// True for one byte in so many.
    pub fn one_in(&mut self, many: u8) -> bool {
        self.byte().is_multiple_of(many)
    }

    /// A number below `below`.
    pub fn number(&mut self, below: usize) -> usize {
        let number = if below > 256 {
            self.short().into()
        } else {
            usize::from(self.byte())
        };
        number % below
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.number(from.len())]
    }

    /// At most `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
