package gateway

import (
	"context"
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
)

// dashKeys is how every session key of Dash begins.
const dashKeys = "agent:main:dash:"

// maxPages bounds the listing; a gateway keeps few sessions because throw-away
// ones are deleted.
const maxPages = 200

// fenceOrphans aborts every Dash session at the gateway that runs, or is about
// to run, something and is not in keep. Session keys are never used again, so
// what is not ours now will never be.
func fenceOrphans(base context.Context, link Link, limit time.Duration, keep map[string]bool) (int, error) {
	fenced := 0
	q := openclaw.SessionQuery{Limit: 200, Search: dashKeys}
	for range maxPages {
		page, err := listPage(base, link, limit, q)
		if err != nil {
			return fenced, err
		}
		for _, row := range page.Sessions {
			if !strings.HasPrefix(row.Key, dashKeys) || keep[row.Key] || !alive(row) {
				continue
			}
			if err := abortKey(base, link, limit, row.Key); err != nil {
				return fenced, err
			}
			fenced++
		}
		if !page.HasMore {
			return fenced, nil
		}
		q.Offset = page.Next
	}
	return fenced, nil
}

// alive reports whether something runs, waits or will be run again in a session.
func alive(row openclaw.Session) bool {
	return row.HasActiveRun || len(row.ActiveRunIDs) > 0 || row.RerunPending() || row.Status == "running" || row.Status == "queued"
}

func listPage(base context.Context, link Link, limit time.Duration, q openclaw.SessionQuery) (openclaw.SessionPage, error) {
	ctx, cancel := context.WithTimeout(base, limit)
	defer cancel()
	return link.Sessions(ctx, q)
}

func abortKey(base context.Context, link Link, limit time.Duration, key string) error {
	ctx, cancel := context.WithTimeout(base, limit)
	defer cancel()
	_, err := link.AbortSession(ctx, key, "", true)
	return err
}
