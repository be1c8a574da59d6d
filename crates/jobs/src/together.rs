//! Calls of one script that are made at the same time go to Redis as one: what each call costs in itself, and what the
//! steps have in common, is then paid once. A call that is alone goes at once and waits for nobody.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{FromRedisValue, Script, Value};
use tokio::sync::oneshot;

use crate::{error::QueueError, redis::Redis, scripts::Scripts};

/// How many calls may be on their way: while one is computed, the next is sent.
const CALLS_MOST: usize = 2;

type Answer = Result<Value, QueueError>;

/// What one step is about.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its first argument, in three parts: what it begins with, what it has in common with others (sent once for all of
    /// them, and here its number in three digits), and what it ends with.
    pub(crate) head: Option<(String, String, String)>,
    /// Its other arguments.
    pub(crate) arguments: Vec<String>,
}

struct Waiting {
    step: Step,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    calls: usize,
}

/// See the module's documentation.
pub(crate) struct Together {
    redis: Redis,
    scripts: Arc<Scripts>,
    script: fn(&Scripts) -> &Script,
    /// How many steps go in one call: enough to share what a call costs, few enough that the next call is made up while Redis
    /// works on this one, and that nobody else waits for long.
    most: usize,
    /// How long things are kept, which all scripts take.
    kept: String,
    state: Mutex<State>,
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").field("waiting", &self.lock().waiting.len()).finish_non_exhaustive()
    }
}

impl Together {
    pub(crate) fn new(
        redis: Redis,
        scripts: Arc<Scripts>,
        script: fn(&Scripts) -> &Script,
        most: usize,
        kept: String,
    ) -> Arc<Self> {
        Arc::new(Self { redis, scripts, script, most, kept, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step. It is carried out even if the caller goes away.
    pub(crate) async fn step<T: FromRedisValue>(self: &Arc<Self>, step: Step) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let start = {
            let mut state = self.lock();
            state.waiting.push(Waiting { step, answer });
            let start = state.calls < CALLS_MOST;
            state.calls += usize::from(start);
            start
        };
        if start {
            tokio::spawn(self.clone().call_until_done());
        }
        let gone = |_| QueueError::Unavailable("the process is ending".into());
        let value = answered.await.map_err(gone)??;
        // What is wrong with one step is told in its own answer.
        if let Value::Array(parts) = &value
            && let [message, kind] = &parts[..]
            && String::from_redis_value_ref(kind).is_ok_and(|kind| kind == "error")
        {
            let message = String::from_redis_value_ref(message).unwrap_or_default();
            return Err(QueueError::Corrupt(format!("a script failed: {message}")));
        }
        T::from_redis_value(value).map_err(|error| redis::RedisError::from(error).into())
    }

    async fn call_until_done(self: Arc<Self>) {
        loop {
            let steps: Vec<_> = {
                let mut state = self.lock();
                let number = state.waiting.len().min(self.most);
                if number == 0 {
                    state.calls -= 1;
                    return;
                }
                state.waiting.drain(..number).collect()
            };
            self.call(steps).await;
        }
    }

    async fn call(&self, steps: Vec<Waiting>) {
        let mut call = self.redis.script((self.script)(&self.scripts));
        call.arg(&self.kept);
        let mut profiles: Vec<&str> = Vec::new();
        let mut heads = Vec::with_capacity(steps.len());
        for Waiting { step, .. } in &steps {
            heads.push(step.head.as_ref().map(|(first, profile, last)| {
                let known = profiles.iter().position(|other| other == profile).unwrap_or_else(|| {
                    profiles.push(profile);
                    profiles.len() - 1
                });
                format!("{first}{:03}{last}", known + 1)
            }));
        }
        if !profiles.is_empty() {
            call.arg(profiles.len()).arg(&profiles);
        }
        for (Waiting { step, .. }, head) in steps.iter().zip(heads) {
            call.arg(head.as_slice()).arg(&step.arguments);
        }
        let answers: Result<Vec<Value>, QueueError> = self.redis.invoke(&call).await;
        // Whoever went away does not hear the answer.
        match answers {
            Ok(answers) => {
                for (step, answer) in steps.into_iter().zip(answers) {
                    let _gone = step.answer.send(Ok(answer));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for step in steps {
                    let _gone = step.answer.send(Err(QueueError::shared(&error)));
                }
            }
        }
    }
}
