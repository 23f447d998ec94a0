package keystore

import (
	"context"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestKeysOutliveTheirStore: a restart of the database locks nobody out.
func TestKeysOutliveTheirStore(t *testing.T) {
	t.Parallel()
	server, err := testserver.StartPostgres(t.Context(), testserver.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	p := keyProcess(t, messages.Secret(server.URL()), func(k persistence.Keys) persistence.Keys { return k })
	text, id, hash, err := auth.NewKey(bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.repo.Create(t.Context(), persistence.Key{Key: messages.Key{ID: id, Name: "k", Active: true, CreatedAt: messages.Now()}, Hash: hash}); err != nil {
		t.Fatal(err)
	}
	use := func() error { _, err := p.keys.Authenticate(t.Context(), text.Reveal()); return err }
	if err := use(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(testserver.Immediate); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := use(); err != nil {
			t.Fatalf("refused while the store is down: %v", err)
		}
	}
	if err := server.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.repo.Revoke(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	for use() == nil {
		if time.Since(revoked) > time.Second+readTime { // a question to the store that went down may still wait
			t.Fatal("a revoked key is accepted after the store came back")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// deaf is a store whose announcements are lost.
type deaf struct{ persistence.Keys }

// TestKeyRevokedElsewhere: two processes on one PostgreSQL.
func TestKeyRevokedElsewhere(t *testing.T) {
	t.Parallel()
	url := messages.Secret(testserver.Postgres(t).Database(t))
	for name, wrap := range map[string]func(persistence.Keys) persistence.Keys{
		"announced": func(k persistence.Keys) persistence.Keys { return k },
		"asked for": func(k persistence.Keys) persistence.Keys { return deaf{k} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := keyProcess(t, url, wrap), keyProcess(t, url, wrap)
			for range 3 {
				text, id, hash, err := auth.NewKey(bcrypt.MinCost)
				if err != nil {
					t.Fatal(err)
				}
				k := persistence.Key{Key: messages.Key{ID: id, Name: "k", Permissions: []string{"tasks:read"}, Active: true, CreatedAt: messages.Now()}, Hash: hash}
				if err := one.repo.Create(t.Context(), k); err != nil {
					t.Fatal(err)
				}
				if _, err := two.keys.Authenticate(t.Context(), text.Reveal()); err != nil {
					t.Fatal(err)
				}
				looks := looked{two.keys, make(chan struct{}, 100)}
				stream, end := auth.Guard(t.Context(), looks, text.Reveal(), auth.Need(auth.TasksRead))
				defer end()
				<-looks.at // from now on it waits
				if _, err := one.repo.Revoke(t.Context(), id, false); err != nil {
					t.Fatal(err)
				}
				revoked := time.Now()
				select {
				case <-stream.Done():
					t.Logf("a stream ended after %v", time.Since(revoked))
				case <-time.After(5 * time.Second):
				}
				if took := time.Since(revoked); took > time.Second || !auth.Ended(context.Cause(stream)) {
					t.Errorf("a stream ended after %v with %v", took, context.Cause(stream))
				}
				revoked = time.Now() // whoever asks is refused at once
				for {
					asked := time.Now()
					_, err := two.keys.Authenticate(t.Context(), text.Reveal())
					if messages.CodeOf(err) == messages.CodeUnauthorized {
						break
					}
					if err != nil || asked.Sub(revoked) > time.Second {
						t.Fatalf("%v after it was revoked: %v", asked.Sub(revoked), err)
					}
					time.Sleep(5 * time.Millisecond)
				}
				t.Logf("refused after %v", time.Since(revoked))
			}
		})
	}
}

// looked tells of each look at a credential.
type looked struct {
	auth.Authenticator
	at chan struct{}
}

func (l looked) Authenticate(ctx context.Context, token string) (*auth.Principal, error) {
	defer func() { l.at <- struct{}{} }()
	return l.Authenticator.Authenticate(ctx, token)
}

type keyProc struct {
	repo persistence.Keys
	keys *auth.Keys
}

func keyProcess(t *testing.T, url messages.Secret, wrap func(persistence.Keys) persistence.Keys) keyProc {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	repo := db.Repositories().Keys
	s := New(wrap(repo), quiet())
	s.Start(context.WithoutCancel(t.Context()))
	t.Cleanup(s.Stop)
	keys, err := auth.NewKeys(auth.KeysConfig{}, s, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return keyProc{repo, keys}
}
