//! Whose turn it is: clients by the tokens that they were served, as in the virtual token counter of [Fairness in Serving Large Language
//! Models](https://arxiv.org/abs/2401.00588).

use std::collections::HashMap;

/// Clients that have no request are forgotten beyond this number.
const REMEMBERED: usize = 1024;

/// Tokens served to each client.
#[derive(Default)]
pub(crate) struct Clients {
    clients: HashMap<String, Client>,
}

#[derive(Clone, Copy, Default)]
struct Client {
    served: u64,
    /// Requests in the engine.
    requests: usize,
}

impl Clients {
    /// A request of a client comes. One that had none begins where the least served of the others stand: it gets no credit for its absence.
    pub fn enter(&mut self, name: &str) {
        let least = self.clients.values().filter(|client| client.requests > 0).map(|client| client.served).min();
        if self.clients.len() >= REMEMBERED && !self.clients.contains_key(name) {
            self.clients.retain(|_, client| client.requests > 0);
        }
        let client = self.clients.entry(name.to_owned()).or_default();
        if client.requests == 0 {
            client.served = client.served.max(least.unwrap_or(0));
        }
        client.requests += 1;
    }

    /// A request of a client has ended.
    pub fn leave(&mut self, name: &str) {
        if let Some(client) = self.clients.get_mut(name) {
            client.requests -= 1;
        }
    }

    /// A client was served this many tokens of prompts or answers.
    pub fn serve(&mut self, name: &str, tokens: usize) {
        if let Some(client) = self.clients.get_mut(name) {
            client.served += tokens as u64;
        }
    }

    /// Tokens that a client was served.
    pub fn served(&self, name: &str) -> u64 {
        self.clients.get(name).map_or(0, |client| client.served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_late_has_no_credit_and_no_debt_is_forgotten() {
        let mut clients = Clients::default();
        clients.enter("a");
        clients.serve("a", 100);
        clients.enter("b");
        assert_eq!(clients.served("b"), 100);
        clients.serve("b", 50);
        clients.leave("b");
        clients.serve("a", 10);
        clients.enter("b");
        assert_eq!((clients.served("a"), clients.served("b")), (110, 150));
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let mut clients = Clients::default();
        clients.enter("stays");
        clients.serve("stays", 7);
        for i in 0..10 * REMEMBERED {
            clients.enter(&i.to_string());
            clients.leave(&i.to_string());
        }
        assert!(clients.clients.len() <= REMEMBERED);
        assert_eq!(clients.served("stays"), 7);
    }
}
