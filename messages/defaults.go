package messages

// What a task gets that does not say otherwise. The API's document tells the
// same; a test holds the two equal.
const (
	DefaultTimeoutSeconds int64   = 600
	DefaultMaxAttempts    int32   = 3
	DefaultBackoffInitial float64 = 1 // seconds
	DefaultBackoffMax     float64 = 60
	DefaultBackoffFactor  float64 = 2
	DefaultBackoffJitter  float64 = 0.2
)

// DefaultBackoff is the pause between attempts of a task that names none.
func DefaultBackoff() *Backoff {
	return &Backoff{InitialSeconds: DefaultBackoffInitial, MaxSeconds: DefaultBackoffMax, Factor: DefaultBackoffFactor, Jitter: DefaultBackoffJitter}
}
