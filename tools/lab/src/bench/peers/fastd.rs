//! fastd over a TAP, with the method `null`: its peers prove who they are, and then neither encrypt nor authenticate.

use super::{Running, Site, command, output, write};
use crate::bench::stage::{DEVICE, FAR, FAR_FIRST, NEAR, NEAR_FIRST, TUNNEL_MTU};
use crate::daemon::Daemon;

const PORT: u16 = 10_000;

pub fn start(site: &Site<'_>) -> Result<Running, String> {
    let secrets = [generate_secret()?, generate_secret()?];
    let keys = [public_key(site, &secrets[0])?, public_key(site, &secrets[1])?];
    let ends = [(FAR, FAR_FIRST, NEAR_FIRST), (NEAR, NEAR_FIRST, FAR_FIRST)];
    let daemons = ends.into_iter().enumerate().map(|(number, (namespace, local, remote))| {
        let settings = site.folder.join(format!("fastd-{number}.conf"));
        let (secret, key) = (&secrets[number], &keys[1 - number]);
        write(
            &settings,
            &format!(
                "mode tap;\ninterface \"{DEVICE}\";\nmethod \"null\";\nmtu {TUNNEL_MTU};\nbind {local}:{PORT};\n\
                 secret \"{secret}\";\npeer \"other\" {{ key \"{key}\"; remote {remote}:{PORT}; }}\n"
            ),
        )?;
        let command = [command("fastd")?, vec!["--config".to_owned(), settings.display().to_string()]].concat();
        Daemon::start(namespace, &command, settings.with_extension("log"))
    });
    Running::configured(daemons.collect::<Result<_, _>>()?, site.stop)
}

fn generate_secret() -> Result<String, String> {
    run(&["--generate-key"])
}

fn public_key(site: &Site<'_>, secret: &str) -> Result<String, String> {
    let settings = site.folder.join("fastd-secret.conf");
    write(&settings, &format!("secret \"{secret}\";\n"))?;
    run(&["--method", "null", "--show-key", "--config", &settings.display().to_string()])
}

fn run(flags: &[&str]) -> Result<String, String> {
    let mut command = command("fastd")?;
    command.push("--machine-readable".to_owned());
    command.extend(flags.iter().map(|flag| (*flag).to_owned()));
    output(&command)
}
