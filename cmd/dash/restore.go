package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
)

// sectionView is what a section of an archive came to.
type sectionView struct {
	Section  persistence.Section `json:"section"`
	Archived int64               `json:"archived"`
	Restored *int64              `json:"restored,omitempty"`
}

var sectionColumns = []column[sectionView]{
	{name: "SECTION", value: func(s sectionView) string { return string(s.Section) }},
	{name: "ARCHIVED", value: func(s sectionView) string { return fmt.Sprint(s.Archived) }},
	{name: "RESTORED", value: func(s sectionView) string {
		if s.Restored == nil {
			return ""
		}
		return fmt.Sprint(*s.Restored)
	}},
}

func restoreCommand(t *terminal) *cobra.Command {
	var o output
	var identities, passphrase string
	var dryRun, unsigned bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Fill an empty store with an archive of `dash backup`",
		Long: "Checks the archive to its end, fills the store in one step, counts what arrived, and prints\n" +
			"both counts. The store must be empty and no node may run on it; it may be of another\n" +
			"engine than the archive. Epochs grow, so a node that still runs on the old store cannot\n" +
			"write to this one; stop it all the same before you start one here, or two nodes drive the\n" +
			"same gateways. Runs that were in flight are settled by the next `dash serve`.\n\n" +
			"An archive is signed with the secret key file of its node (<data>/secret.key, or\n" +
			"--secret-key-file), which has to be at its place here first: it says that no one else made the\n" +
			"archive, and opens the tokens of gateways. One that is not is refused unless --accept-unsigned.\n\n" +
			"Keys, users and logins are as they were at the mark: revoke again what was revoked since.",
		Example: "  dash restore dash-node-1-20261121T040000Z.backup.zst --data /var/lib/dash-new\n" +
			"  dash restore dash-node-1-20261121T040000Z.backup.zst --store postgres --postgres-url postgres://dash@db/dash\n" +
			"  dash restore --dry-run /mnt/backups/dash-node-1-20261121T040000Z.backup.zst.age --identity-file key.txt",
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := check(o, sectionColumns); err != nil {
				return err
			}
			if err := given(cmd, "identity-file", "passphrase-file"); err != nil {
				return err
			}
			ids, err := identitiesFrom(identities, passphrase)
			if err != nil {
				return err
			}
			l, err := storeConfig(t, cmd, false)
			if err != nil {
				return err
			}
			trust, err := secrets.Verifier(l.Config)
			if err != nil {
				return keyFailure(err)
			}
			if unsigned {
				trust = nil
			}
			if dryRun {
				return verifyArchive(cmd.Context(), t, o, args[0], ids, trust)
			}
			return runRestore(cmd.Context(), t, o, l, args[0], ids, trust)
		},
	}
	storeFlags(c)
	o.addFlags(c)
	c.Flags().StringVar(&identities, "identity-file", "", "file with the identity (AGE-SECRET-KEY-1…) of an encrypted archive")
	c.Flags().StringVar(&passphrase, "passphrase-file", "", "file whose first line is the passphrase of the archive")
	c.Flags().Duration("redis-accept-loss", 0, "restore to a Redis server that may lose this much in a crash, as for dash serve")
	c.Flags().Bool("postgres-accept-loss", false, "restore to a PostgreSQL server whose fsync or full_page_writes is off, as for dash serve")
	c.Flags().BoolVar(&unsigned, "accept-unsigned", false, "restore an archive that is not signed with one of the secret keys: its API keys and permissions count, no matter who wrote them")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only check the archive, and show what it holds and who signed it")
	c.MarkFlagsMutuallyExclusive("identity-file", "passphrase-file")
	return c
}

func identitiesFrom(file, passphraseFile string) ([]backup.Identity, error) {
	switch {
	case passphraseFile != "":
		_, id, err := backup.ReadPassphrase(passphraseFile)
		if err != nil {
			return nil, usage(next.GiveReadablePassphrase, "%s", err)
		}
		return []backup.Identity{id}, nil
	case file != "":
		ids, err := backup.ReadIdentities(file)
		if err != nil {
			return nil, usage(next.GiveIdentityFileOf, "%s", err)
		}
		return ids, nil
	}
	return nil, nil
}

func openArchive(path string) (*os.File, error) {
	// A pipe must not hold the command, and could not be read twice.
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &failure{code: exitNotFound, what: "there is no file " + path, next: next.GiveArchive, err: err}
	}
	if err != nil {
		return nil, archiveFailure(path, err)
	}
	if info, err := in.Stat(); err == nil && !info.Mode().IsRegular() {
		_ = in.Close() // nothing was read or written
		kind := "no file"
		if info.IsDir() {
			kind = "a folder"
		}
		return nil, usage(next.GiveBackupFile, "%s is %s", path, kind)
	}
	return in, nil
}

func verifyArchive(ctx context.Context, t *terminal, o output, path string, ids []backup.Identity, trust func(*backup.Manifest) error) (err error) {
	in, err := openArchive(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	p := newProgress(t, "rows checked")
	m, err := backup.Verify(ctx, in, ids, p.show)
	p.end()
	if err != nil {
		return archiveFailure(path, err)
	}
	if err := printList(t, o, sectionColumns, sections(m, false)); err != nil {
		return err
	}
	fmt.Fprintf(t.err, "the archive is whole: %s, mark %s (event %d)\n", m.Source.Engine, m.Source.Mark.Time.Format(time.RFC3339), m.Source.Mark.Seq)
	if trust == nil {
		return nil
	}
	if why := trust(m); why != nil {
		return archiveFailure(path, why) // as the restore itself would
	}
	fmt.Fprintln(t.err, "it is signed with the key "+m.Signed.Key)
	return nil
}

func runRestore(ctx context.Context, t *terminal, o output, l *config.Loaded, path string, ids []backup.Identity, trust func(*backup.Manifest) error) (err error) {
	in, err := openArchive(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	to := &lateTarget{cfg: l.Config}
	defer func() { err = errors.Join(err, to.Close()) }()
	p := newProgress(t, "rows restored")
	m, err := backup.Restore(ctx, to, in, ids, trust, p.show)
	p.end()
	if to.failed != nil {
		return storeFailure(l, to.failed)
	}
	if err != nil {
		return archiveFailure(path, err)
	}
	if err := engine.Pair(ctx, l.Config); err != nil {
		return storeFailure(l, fmt.Errorf("everything is restored, but the two servers do not know each other yet: %w", err))
	}
	if err := printList(t, o, sectionColumns, sections(m, true)); err != nil {
		return err
	}
	fmt.Fprintf(t.err, "restored %d rows as of %s (event %d)\nnext: %s.\nIts API keys are those of the archive: revoke again what was revoked after that time.\nIf none is at hand: %s.\n",
		m.Rows(), m.Source.Mark.Time.Format(time.RFC3339), m.Source.Mark.Seq, next.StopOldStore, next.MakeKeyOffline)
	return nil
}

// lateTarget is the configured store. It is opened, and so made if it is not
// there, when the archive was found to be whole: a refused one leaves nothing.
type lateTarget struct {
	cfg    config.Config
	to     persistence.Restorer // nil until it is open
	failed error                // why it could not be opened
}

// Restore implements persistence.Restorer.
func (l *lateTarget) Restore(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	if l.to, l.failed = engine.OpenTarget(ctx, l.cfg); l.failed != nil {
		l.to = nil
		return nil, l.failed
	}
	return l.to.Restore(ctx, mark, rows)
}

// Close implements persistence.Restorer.
func (l *lateTarget) Close() error {
	if l.to == nil {
		return nil
	}
	return l.to.Close()
}

// sections lists the counts of an archive. Restore returns only when the store
// holds the same, so restored repeats them.
func sections(m *backup.Manifest, restored bool) []sectionView {
	var out []sectionView
	for s, n := range m.Counts {
		v := sectionView{Section: s, Archived: n}
		if restored {
			v.Restored = &n
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b sectionView) int { return cmp.Compare(a.Section, b.Section) })
	return out
}
