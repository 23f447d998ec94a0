package commit

// RetryAfter is the pause between tries while the store is down.
const RetryAfter = retryAfter
