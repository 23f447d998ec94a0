package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// auditInOneStep: a change with a row of the audit log keeps both or neither,
// and says which.
func auditInOneStep(t *testing.T, e Engine) {
	r := e.Repositories()
	g := messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1", Token: "t", MaxConcurrency: 1, Weight: 1, CreatedAt: messages.Now()}
	key := persistence.Key{Key: messages.Key{ID: "k", Name: "n", Tenant: "default", CreatedAt: messages.Now(), Active: true, Version: 1}, Hash: []byte("h")}
	old := g
	old.Version = 7
	for i, c := range []struct {
		name   string
		do     func(context.Context) error
		failed error
	}{
		{"create", func(ctx context.Context) error { _, err := r.Gateways.Create(ctx, g); return err }, nil},
		{"create again", func(ctx context.Context) error { _, err := r.Gateways.Create(ctx, g); return err }, persistence.ErrExists},
		{"update", func(ctx context.Context) error { g.Version = 1; _, err := r.Gateways.Update(ctx, g); return err }, nil},
		{"update an old version", func(ctx context.Context) error { _, err := r.Gateways.Update(ctx, old); return err }, persistence.ErrVersion},
		{"delete", func(ctx context.Context) error { return r.Gateways.Delete(ctx, "gw") }, nil},
		{"delete nothing", func(ctx context.Context) error { return r.Gateways.Delete(ctx, "gw") }, persistence.ErrNotFound},
		{"pool", func(ctx context.Context) error {
			_, err := r.Pools.Put(ctx, messages.Pool{ID: "p", Tenant: "default"})
			return err
		}, nil},
		{"no pool", func(ctx context.Context) error { return r.Pools.Delete(ctx, "none") }, persistence.ErrNotFound},
		{"delete pool", func(ctx context.Context) error { return r.Pools.Delete(ctx, "p") }, nil},
		{"key", func(ctx context.Context) error { return r.Keys.Create(ctx, key) }, nil},
		{"revoke", func(ctx context.Context) error { _, err := r.Keys.Revoke(ctx, "k", false); return err }, nil},
		{"revoke nothing", func(ctx context.Context) error { _, err := r.Keys.Revoke(ctx, "none", false); return err }, persistence.ErrNotFound},
		{"key of nobody", func(ctx context.Context) error {
			child := key
			child.ID, child.Parent = "child", "k"
			return r.Keys.Create(ctx, child)
		}, persistence.ErrNotFound},
		{"tenant", func(ctx context.Context) error {
			_, err := r.Tenants.Create(ctx, messages.Tenant{ID: "acme"})
			return err
		}, nil},
	} {
		told := 0
		entry := persistence.AuditEntry{Time: messages.Now(), Actor: "key:a", Action: c.name, Target: fmt.Sprint(i)}
		if err := c.do(persistence.WithAudit(t.Context(), entry, func() { told++ })); !errors.Is(err, c.failed) {
			t.Fatalf("%s: %v, want %v", c.name, err, c.failed)
		}
		rows, err := r.Audit.List(t.Context(), persistence.AuditFilter{Action: c.name})
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if c.failed != nil {
			want = 0
		}
		if len(rows) != want || told != want {
			t.Errorf("%s: %d rows, told %d times, want %d", c.name, len(rows), told, want)
		}
	}
	if _, err := r.Audit.Verify(t.Context()); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func auditFilters(t *testing.T, e Engine) {
	r := e.Repositories().Audit
	begin := messages.Now().Add(-time.Hour)
	for i := range 6 {
		_, err := r.Append(t.Context(), persistence.AuditEntry{
			Time: begin.Add(time.Duration(i) * time.Minute), Tenant: []string{"", "acme"}[i%2], Actor: []string{"key:a", "key:b", "user:c"}[i%3],
			Action: []string{"createKey", "revokeKey"}[i/3], Target: fmt.Sprint("t", i%2),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		filter persistence.AuditFilter
		want   []int64
	}{
		{"all", persistence.AuditFilter{}, []int64{6, 5, 4, 3, 2, 1}},
		{"actor", persistence.AuditFilter{Actor: "key:b"}, []int64{5, 2}},
		{"action", persistence.AuditFilter{Action: "revokeKey"}, []int64{6, 5, 4}},
		{"target", persistence.AuditFilter{Target: "t1"}, []int64{6, 4, 2}},
		{"since", persistence.AuditFilter{Since: begin.Add(4 * time.Minute)}, []int64{6, 5}},
		{"until", persistence.AuditFilter{Until: begin.Add(time.Minute)}, []int64{1}},
		{"several", persistence.AuditFilter{Tenant: "acme", Actor: "user:c", Action: "revokeKey", Target: "t1", Since: begin, Until: begin.Add(time.Hour)}, []int64{6}},
		{"page", persistence.AuditFilter{Action: "createKey", Before: 3, Limit: 1}, []int64{2}},
		{"no pattern", persistence.AuditFilter{Actor: "key:%"}, nil},
	} {
		rows, err := r.List(t.Context(), c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, row := range rows {
			got = append(got, row.Seq)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: rows %v, want %v", c.name, got, c.want)
		}
	}
}
