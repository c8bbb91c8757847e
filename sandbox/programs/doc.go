// Package programs finds what cove runs outside, as the caller, by the caller's PATH without the folders that a sandbox can write: PATH may
// name a folder of the project, as direnv and npm have it, and what lies there under the name of git, less, pasta or docker-credential-x
// would run outside, at the sandbox's own wish. What a sandbox finds inside by its PATH is not this package's.
//
// Who knows such a folder calls Guard, before anything is looked for. It changes this process's PATH, so that libraries and
// programs that look for others obey too; LookupEnv has what the caller gave.
package programs
