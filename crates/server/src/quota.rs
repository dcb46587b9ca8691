//! What each key may take.

use crate::keys::Key;
use axum::extract::Request;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use trine_api::{Problem, ProblemKind};

/// An allowance that fills up again within a minute.
#[derive(Debug)]
struct Bucket {
    /// What is left; less than nothing when an answer took more than was known before.
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(most: u32, now: Instant) -> Bucket {
        Bucket { left: most.into(), at: now }
    }

    /// Seconds until there is something left, after what came in meanwhile.
    fn wait(&mut self, most: u32, now: Instant) -> Option<f64> {
        let most = f64::from(most);
        self.left = (self.left + now.saturating_duration_since(self.at).as_secs_f64() * most / 60.0).min(most);
        self.at = now;
        (self.left < 1.0).then(|| (1.0 - self.left) * 60.0 / most)
    }
}

#[derive(Debug, Default)]
struct Used {
    running: u32,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// What the keys have used, by their names.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<String, Arc<Mutex<Used>>>>);

/// A request of a key that runs. It counts as long as this lives.
#[derive(Debug)]
pub struct Admission {
    used: Arc<Mutex<Used>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quotas {
    /// Lets a request of a key run, or says when it may.
    ///
    /// # Errors
    /// When a limit of the key is reached; the problem says when it is worth another try.
    pub fn admit(&self, key: &Key) -> Result<Admission, Problem> {
        let used = lock(&self.0).entry(key.name.clone()).or_default().clone();
        let now = Instant::now();
        let refused = |what: String, seconds: f64| {
            let message = format!("the key `{}` may have {what}: try again later", key.name);
            let (code, retry_after) = (Some("rate_limit_exceeded"), Some(seconds.ceil() as u64));
            Err(Problem { code, retry_after, ..Problem::new(ProblemKind::RateLimit, message) })
        };
        let mut own = lock(&used);
        if let Some(most) = key.max_concurrency.filter(|&most| own.running >= most) {
            return refused(format!("{most} requests at once"), 1.0);
        }
        if let Some(most) = key.tokens_per_minute
            && let Some(seconds) = own.tokens.get_or_insert_with(|| Bucket::new(most, now)).wait(most, now)
        {
            return refused(format!("{most} tokens per minute"), seconds);
        }
        if let Some(most) = key.requests_per_minute {
            let bucket = own.requests.get_or_insert_with(|| Bucket::new(most, now));
            if let Some(seconds) = bucket.wait(most, now) {
                return refused(format!("{most} requests per minute"), seconds);
            }
            bucket.left -= 1.0;
        }
        own.running += 1;
        drop(own);
        Ok(Admission { used })
    }
}

impl Admission {
    /// That of a request with a key.
    pub fn of(request: &Request) -> Option<Arc<Admission>> {
        request.extensions().get().cloned()
    }

    /// Counts tokens.
    pub fn charge(&self, tokens: usize) {
        if let Some(bucket) = &mut lock(&self.used).tokens {
            bucket.left -= tokens as f64;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        lock(&self.used).running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_what_it_may_have_and_no_more() {
        let quotas = Quotas::default();
        let key = |requests, tokens, concurrency| Key {
            name: format!("{requests:?} {tokens:?} {concurrency:?}"),
            sha256: String::new(),
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            max_concurrency: concurrency,
            admin: false,
        };
        let message = |key: &Key| quotas.admit(key).unwrap_err().message;
        let at_once = key(None, None, Some(2));
        let both = [quotas.admit(&at_once).unwrap(), quotas.admit(&at_once).unwrap()];
        assert!(message(&at_once).contains("2 requests at once"));
        drop(both);
        assert!(quotas.admit(&at_once).is_ok());
        let requests = key(Some(3), None, None);
        assert!((0..3).all(|_| quotas.admit(&requests).is_ok()));
        let problem = quotas.admit(&requests).unwrap_err();
        assert!(problem.message.contains("3 requests per minute") && problem.retry_after == Some(20), "{problem:?}");
        let tokens = key(None, Some(100), None);
        quotas.admit(&tokens).unwrap().charge(150);
        let problem = quotas.admit(&tokens).unwrap_err();
        assert!(problem.message.contains("100 tokens per minute") && problem.retry_after == Some(31), "{problem:?}");
        assert!((0..100).all(|_| quotas.admit(&key(None, None, None)).is_ok()));
    }
}
