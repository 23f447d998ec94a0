package launcher

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
)

const (
	recordVersion = 1
	recordLimit   = 256 << 10
)

// record is launch.json: which process was started for this gateway. It is
// written before a start (PID 0: the intent) and again when the pid is known,
// so that a process can be found whenever Dash dies.
type record struct {
	Version    int    `json:"version"`
	Gateway    string `json:"gateway"`
	LaunchID   string `json:"launch_id"` // random; DASH_LAUNCH_ID of the process
	HostBootID string `json:"host_boot_id"`
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // field 22 of /proc/<pid>/stat
	Port       int    `json:"port"`
	TokenPrint string `json:"token_fingerprint"` // HMAC of the token under launch_id
	prints
	Command   []string  `json:"command"`
	StartedAt time.Time `json:"started_at"`
	ReadyAt   time.Time `json:"ready_at,omitzero"` // zero: never seen ready
}

// readRecord returns the record of dir; ok is false when there is none that
// can be used, err says when there is one that cannot be read.
func readRecord(dir folder) (rec record, ok bool, err error) {
	b, err := readFile(dir.record(), recordLimit)
	if isMissing(err) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read the launch record: %w", err)
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return record{}, false, fmt.Errorf("read the launch record: %w", err)
	}
	if rec.Version != recordVersion || rec.LaunchID == "" || rec.PID < 0 || rec.Port < 0 || rec.Port > 65535 {
		return record{}, false, errors.New("read the launch record: its content makes no sense")
	}
	return rec, true, nil
}

func (r record) write(dir folder) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the launch record: %w", err)
	}
	if err := writeFile(dir.record(), append(b, '\n')); err != nil {
		return fmt.Errorf("write the launch record: %w", err)
	}
	return nil
}

// printOf is a fingerprint of a token that says nothing without the record.
func printOf(token messages.Secret, launchID string) string {
	mac := hmac.New(sha256.New, []byte(launchID))
	mac.Write([]byte(token.Reveal()))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails: it ends the process instead
	return hex.EncodeToString(b)
}
