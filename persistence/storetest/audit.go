package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func auditEntry(i int) persistence.AuditEntry {
	return persistence.AuditEntry{
		Time: messages.Now(), Tenant: []string{"", "acme"}[i%2], Actor: "key:k1", Action: "createGateway",
		Target: fmt.Sprint("gw-", i), RequestID: fmt.Sprint("r-", i), Detail: `{"url":"ws://x"}`,
	}
}

func audit(t testing.TB, e Engine, n int) (rows []persistence.AuditEntry) {
	t.Helper()
	for i := range n {
		row, err := e.Repositories().Audit.Append(t.Context(), auditEntry(i))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func auditRepo(t *testing.T, e Engine) {
	ctx := t.Context()
	if head, err := e.Repositories().Audit.Verify(ctx); err != nil || head != (persistence.AuditHead{}) {
		t.Fatalf("verify an empty log: %v, %v", head, err)
	}
	rows := audit(t, e, 5)
	e.Restart(t)
	r := e.Repositories().Audit
	// Hostile text and an empty entry hold the chain together as well.
	for _, odd := range []persistence.AuditEntry{{}, {Actor: "a\nb", Detail: strings.Repeat("ä", 3000)}} {
		odd.Time = messages.Now()
		row, err := r.Append(ctx, odd)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	for i, row := range rows {
		if row.Seq != int64(i+1) {
			t.Fatalf("row %d has number %d", i, row.Seq)
		}
	}
	newest := slices.Clone(rows)
	slices.Reverse(newest)
	list, err := r.List(ctx, persistence.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, list, newest)
	if list, err = r.List(ctx, persistence.AuditFilter{Before: 4, Limit: 2}); err != nil {
		t.Fatal(err)
	}
	same(t, list, []persistence.AuditEntry{rows[2], rows[1]})
	if list, err = r.List(ctx, persistence.AuditFilter{Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	same(t, list, []persistence.AuditEntry{rows[3], rows[1]})
	last := rows[len(rows)-1]
	if head, err := r.Verify(ctx); err != nil || head != (persistence.AuditHead{Seq: last.Seq, Hash: last.Hash}) {
		t.Fatalf("verify: %v, %v", head, err)
	}
}

// auditRace: appends from many callers make one chain without holes, also
// while it is verified.
func auditRace(t *testing.T, e Engine) {
	r := e.Repositories().Audit
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := r.Append(t.Context(), auditEntry(w*each+i)); err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	for range 5 {
		if _, err := r.Verify(t.Context()); err != nil {
			t.Errorf("verify under writes: %v", err)
		}
	}
	wg.Wait()
	if head, err := r.Verify(t.Context()); err != nil || head.Seq != writers*each {
		t.Errorf("verify: %v, %v", head, err)
	}
}

// auditPages: a log of more than one page verifies.
func auditPages(t *testing.T, e Engine) {
	n := persistence.MaxAuditPage + 5
	if testing.Short() {
		n = 5
	}
	audit(t, e, n)
	if head, err := e.Repositories().Audit.Verify(t.Context()); err != nil || head.Seq != int64(n) {
		t.Errorf("verify: %v, %v", head, err)
	}
	list, err := e.Repositories().Audit.List(t.Context(), persistence.AuditFilter{Limit: 1 << 30})
	if err != nil || len(list) != min(n, persistence.MaxAuditPage) {
		t.Errorf("%d rows in a page, %v", len(list), err)
	}
}
