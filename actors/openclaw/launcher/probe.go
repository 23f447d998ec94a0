package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	probeTimeout = 5 * time.Second
	firstPause   = 50 * time.Millisecond
	readyzLimit  = 64 << 10
)

func newProbeClient() *http.Client {
	return &http.Client{
		Timeout:       probeTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: readyzLimit},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a gateway does not redirect") },
	}
}

// ready asks /readyz once. why tells an operator what was answered instead.
func (l *Launcher) ready(ctx context.Context, port int) (ok bool, why string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+"/readyz", nil)
	if err != nil {
		return false, err.Error()
	}
	res, err := l.client.Do(req)
	if err != nil {
		return false, "/readyz did not answer"
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return true, ""
	}
	why = fmt.Sprintf("/readyz answered %d", res.StatusCode)
	var body struct {
		Failing []string `json:"failing"`
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, readyzLimit))
	if err == nil && json.Unmarshal(b, &body) == nil && len(body.Failing) > 0 {
		why += " (" + clip(strings.Join(body.Failing, ", "), 200) + ")"
	}
	return false, why
}

// Ends of a wait for readiness.
var (
	errEnded   = errors.New("the process ended")
	errForeign = errors.New("another process listens on the gateway's port")
	errLate    = errors.New("the process was not ready in time")
)

// awaitReady waits until the daemon listens on port and calls itself ready,
// and returns the process that listens: p, or the daemon that p started. A
// port that somebody else listens on is never asked.
func (l *Launcher) awaitReady(ctx context.Context, p *process, port int, launchID string) (owner int, why string, err error) {
	limit := time.NewTimer(l.cfg.StartupTimeout)
	defer limit.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	why = "nothing listened on the port"
	for pause := firstPause; ; pause = min(2*pause, l.cfg.ProbeInterval) {
		select {
		case <-p.done:
			return 0, why, errEnded
		case <-ctx.Done():
			return 0, why, context.Cause(ctx)
		case <-limit.C:
			return 0, why, errLate
		case <-next.C:
		}
		use, owner, err := portOwner(port, p.pid, launchID)
		if err != nil {
			return 0, why, err
		}
		switch use {
		case portForeign:
			return 0, why, errForeign
		case portOurs:
			ok, answer := l.ready(ctx, port)
			if ok {
				return owner, "", nil
			}
			why = answer
		}
		next.Reset(pause)
	}
}
