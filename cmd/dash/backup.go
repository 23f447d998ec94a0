package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/sealed"
)

// archiveView is an archive as printed.
type archiveView struct {
	File      string                        `json:"file"`
	Engine    string                        `json:"engine"`
	Schema    int64                         `json:"schema"`
	MarkTime  string                        `json:"mark_time"`
	MarkSeq   int64                         `json:"mark_seq"`
	Rows      int64                         `json:"rows"`
	Bytes     int64                         `json:"bytes"`
	Encrypted bool                          `json:"encrypted"`
	SignedBy  string                        `json:"signed_by,omitempty"`
	SHA256    string                        `json:"content_sha256"`
	Seconds   float64                       `json:"took_seconds"`
	Sections  map[persistence.Section]int64 `json:"sections"`
}

var archiveColumns = []column[archiveView]{
	{name: "FILE", value: func(a archiveView) string { return a.File }},
	{name: "ENGINE", value: func(a archiveView) string { return fmt.Sprintf("%s, schema %d", a.Engine, a.Schema) }},
	{name: "MARK", value: func(a archiveView) string { return fmt.Sprintf("%s, event %d", a.MarkTime, a.MarkSeq) }},
	{name: "ROWS", value: func(a archiveView) string { return fmt.Sprint(a.Rows) }},
	{name: "TASKS", value: func(a archiveView) string { return fmt.Sprint(a.Sections[persistence.SectionTasks]) }},
	{name: "BYTES", value: func(a archiveView) string { return fmt.Sprint(a.Bytes) }},
	{name: "ENCRYPTED", value: func(a archiveView) string { return yesNo(a.Encrypted) }},
	{name: "SIGNED", value: func(a archiveView) string { return yesNo(a.SignedBy != "") }},
	{name: "TOOK", value: func(a archiveView) string { return age(seconds(a.Seconds)) }},
}

func viewArchive(f *backup.File, sealed bool, took time.Duration) archiveView {
	return archiveView{
		File: f.Path, Engine: f.Source.Engine, Schema: f.Source.Schema,
		MarkTime: f.Source.Mark.Time.UTC().Format(time.RFC3339Nano), MarkSeq: f.Source.Mark.Seq,
		Rows: f.Rows(), Bytes: f.Bytes, Encrypted: sealed, SignedBy: f.Signed.Key, SHA256: f.SHA256, Seconds: took.Seconds(), Sections: f.Counts,
	}
}

func backupCommand(t *terminal) *cobra.Command {
	var o output
	var to []string
	var passphrase string
	c := &cobra.Command{
		Use: "backup [FILE|FOLDER]", Short: "Copy the store into an archive, also while nodes are running",
		Long: "Copies everything that is in the store as of one moment, the mark, into a compressed\n" +
			"archive with a checksum. Whatever was answered before the mark is in it. The archive\n" +
			"is made beside running nodes and holds API key hashes, messages and results: keep it as you\n" +
			"keep those, or encrypt it. The tokens of gateways are in it as in the store, sealed where\n" +
			"there is a --secret-key-file, which signs the archive, too. Not in it: the folders of\n" +
			"managed gateways, and key files; a restored store needs the secret key file.\n\n" +
			"A node makes scheduled backups with `dash serve --backup-every 4h`.",
		Example: "  dash backup --data /var/lib/dash\n  dash backup /mnt/backups --encrypt-to age1…\n" +
			"  dash backup /mnt/dash.backup.zst.age --passphrase-file pass --store postgres --postgres-url postgres://dash@db/dash",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := check(o, archiveColumns); err != nil {
				return err
			}
			if err := given(cmd, "passphrase-file"); err != nil {
				return err
			}
			if len(args) == 1 && args[0] == "" {
				return usage(next.GiveFileOrFolder, "FILE is empty")
			}
			recipients, err := recipientsFrom(to, passphrase)
			if err != nil {
				return err
			}
			l, err := storeConfig(t, cmd, true)
			if err != nil {
				return err
			}
			return runBackup(cmd.Context(), t, o, l, archivePath(l, args, len(recipients) > 0), recipients)
		},
	}
	storeFlags(c)
	o.addFlags(c)
	c.Flags().StringArrayVar(&to, "encrypt-to", nil, "public key of age (age1…) that may read the archive; may be given several times")
	c.Flags().StringVar(&passphrase, "passphrase-file", "", "encrypt with the passphrase in the first line of this file")
	c.MarkFlagsMutuallyExclusive("encrypt-to", "passphrase-file")
	return c
}

func runBackup(ctx context.Context, t *terminal, o output, l *config.Loaded, path string, recipients []backup.Recipient) (err error) {
	sign, err := secrets.Signer(l.Config)
	if err != nil {
		return keyFailure(err)
	}
	src, err := engine.OpenSource(ctx, l.Config)
	if err != nil {
		return storeFailure(l, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	begun := time.Now()
	p := newProgress(t, "rows copied")
	f, err := backup.Create(ctx, path, src, backup.Options{By: version, Recipients: recipients, Sign: sign, Progress: p.show})
	p.end()
	if err != nil {
		return archiveFailure(path, err)
	}
	if f.Signed.Key == "" {
		fmt.Fprintln(t.err, "the archive is not signed, as there is no --secret-key-file: anyone who can write it can add API keys to it, and `dash restore` accepts it only with --accept-unsigned")
	}
	return printOne(t, o, archiveColumns, viewArchive(f, len(recipients) > 0, time.Since(begun)))
}

// keyFailure is a file of secret keys that cannot be used.
func keyFailure(err error) error {
	var file *sealed.FileError
	if errors.As(err, &file) {
		return &failure{code: exitFailed, what: file.Error(), next: file.NextStep(), err: err}
	}
	return err
}

// archivePath is where the archive goes: FILE, or a name with the time in it.
func archivePath(l *config.Loaded, args []string, sealed bool) string {
	name := backup.Name(l.Node, time.Now(), sealed)
	if len(args) == 0 {
		return name
	}
	if info, err := os.Stat(args[0]); err == nil && info.IsDir() {
		return filepath.Join(args[0], name)
	}
	return args[0]
}

// given refuses flags that are there without a value, as a variable of a script
// that is not set leaves them: the archive would be in the clear.
func given(cmd *cobra.Command, files ...string) error {
	for _, name := range files {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usage(fmt.Sprintf(next.GiveFlagFile, name), "--%s is empty", name)
		}
	}
	return nil
}

func recipientsFrom(keys []string, passphraseFile string) ([]backup.Recipient, error) {
	if passphraseFile != "" {
		to, _, err := backup.ReadPassphrase(passphraseFile)
		if err != nil {
			return nil, usage(next.GiveReadablePassphrase, "%s", err)
		}
		return []backup.Recipient{to}, nil
	}
	to, err := backup.ParseRecipients(keys)
	if err != nil {
		return nil, usage(next.MakeKeyPair, "%s", err)
	}
	return to, nil
}

// archiveFailure puts what can go wrong with an archive into a user's words.
func archiveFailure(path string, err error) error {
	var broken *backup.CorruptError
	var untrusted *secrets.UntrustedError
	switch {
	case errors.As(err, &untrusted):
		return &failure{code: exitAuth, what: path + ": " + untrusted.Error(), next: untrusted.NextStep(), err: err}
	case errors.Is(err, backup.ErrExists):
		return &failure{code: exitConflict, what: err.Error(), next: next.OtherName, err: err}
	case errors.As(err, &broken):
		return &failure{code: exitFailed, what: path + ": " + err.Error(), next: next.UseOtherArchive, err: err}
	case errors.Is(err, backup.ErrEncrypted):
		return usage(next.GiveIdentityFile, "%s: %s", path, err)
	case errors.Is(err, backup.ErrIdentity):
		return &failure{code: exitAuth, what: path + ": " + err.Error(), next: next.GiveIdentity, err: err}
	case errors.Is(err, backup.ErrNotArchive):
		return usage(next.GiveBackupFile, "%s: %s", path, err)
	case errors.Is(err, fs.ErrPermission):
		return &failure{code: exitFailed, what: err.Error(), next: next.RunAsOwner, err: err}
	case errors.Is(err, fs.ErrNotExist):
		if dir := filepath.Dir(path); missing(dir) {
			return &failure{code: exitNotFound, what: "there is no folder " + dir, next: next.MakeOrOtherFile, err: err}
		}
	}
	return storeError(err)
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// storeFailure is a store that cannot be opened.
func storeFailure(l *config.Loaded, err error) error {
	if l.Store == config.EngineSQLite && errors.Is(err, fs.ErrNotExist) {
		return &failure{code: exitNotFound, what: "there is no store in " + l.Data, next: next.GiveNodeFolder, err: err}
	}
	return storeError(err)
}

// progress is a line that is overwritten, on a terminal only.
type progress struct {
	t    *terminal
	what string
	any  bool
}

func newProgress(t *terminal, what string) *progress { return &progress{t: t, what: what} }

func (p *progress) show(n int64) {
	if !p.t.person {
		return
	}
	p.any = true
	fmt.Fprintf(p.t.err, "\r%d %s ", n, p.what)
}

func (p *progress) end() {
	if p.any {
		fmt.Fprintln(p.t.err)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
