//! An nginx of a test's own: in front of a PHP-FPM, where it serves the scripts of `tests/php`, or of the gateway.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{Fpm, eventually, free_port, repository};

pub struct Nginx {
    dir: TempDir,
    process: Process,
    port: u16,
}

impl Nginx {
    /// In front of PHP.
    pub async fn start(fpm: &Fpm) -> Self {
        Self::start_with_root(fpm, &repository("tests/php")).await
    }

    /// The same for the scripts in another directory.
    pub async fn start_with_root(fpm: &Fpm, root: &Path) -> Self {
        let server = format!(
            r#"
            root {root};
            location ~ \.php$ {{
                fastcgi_pass unix:{socket};
                fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
                fastcgi_param REQUEST_METHOD $request_method;
                fastcgi_param QUERY_STRING $query_string;
                fastcgi_param CONTENT_TYPE $content_type;
                fastcgi_param CONTENT_LENGTH $content_length;
            }}
            "#,
            root = root.display(),
            socket = fpm.listen(),
        );
        Self::serve(&server).await
    }

    /// In front of a front controller, with Debian's list of variables, as the guides of frameworks write it.
    pub async fn with_front_controller(fpm: &Fpm, root: &Path, script: &str) -> Self {
        let server = format!(
            r#"
            root {root};
            location / {{ try_files $uri /{script}?$args; }}
            location ~ \.php$ {{
                include /etc/nginx/fastcgi_params;
                fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
                fastcgi_pass unix:{socket};
            }}
            "#,
            root = root.display(),
            socket = fpm.listen(),
        );
        Self::serve(&server).await
    }

    /// In front of the gateway, to which it connects from an address of its own.
    pub async fn in_front_of(gateway: SocketAddr, from: &str) -> Self {
        let server = format!(
            r#"
            location / {{
                proxy_pass http://{gateway};
                proxy_bind {from};
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection "upgrade";
                proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme;
            }}
            "#
        );
        Self::serve(&server).await
    }

    /// In front of the gateway, without the line that nginx needs to speak HTTP/1.1 with it.
    pub async fn without_http_1_1(gateway: SocketAddr) -> Self {
        let server = format!(
            r#"
            location / {{
                proxy_pass http://{gateway};
                proxy_http_version 1.0;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection "upgrade";
            }}
            "#
        );
        Self::serve(&server).await
    }

    async fn serve(server: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let path = dir.path().display();
        let config = format!(
            r#"
            daemon off;
            worker_processes 1;
            pid {path}/nginx.pid;
            error_log {path}/error.log;
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                # The usual thousand would be gone within a second of a benchmark.
                keepalive_requests 1000000000;
                client_max_body_size 64m;
                client_body_temp_path {path}/body;
                fastcgi_temp_path {path}/fastcgi;
                proxy_temp_path {path}/proxy;
                uwsgi_temp_path {path}/uwsgi;
                scgi_temp_path {path}/scgi;
                server {{
                    listen 127.0.0.1:{port} backlog=4096;
                    {server}
                }}
            }}
            "#
        );
        // Workers of root's nginx run as another user, who cannot enter a private directory.
        let config = if is_root() {
            format!("user root;{config}")
        } else {
            config
        };
        std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let process = spawn(&dir);
        let nginx = Self { dir, process, port };
        nginx.listens().await;
        nginx
    }

    /// The upstream for a script, as a line of the section `[upstream]`.
    pub fn upstream(&self, script: &str) -> String {
        format!("url = \"http://127.0.0.1:{}/{script}\"\n", self.port)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends a signal by name to it and its workers.
    pub fn signal_all(&self, name: &str) {
        self.process.signal_group(name);
    }

    /// Changes its configuration, and waits until that is in force.
    pub async fn change(&mut self, from: &str, to: &str) {
        let file = self.dir.path().join("nginx.conf");
        let config = std::fs::read_to_string(&file).unwrap();
        assert!(config.contains(from));
        std::fs::write(&file, config.replace(from, to)).unwrap();
        self.stop().await;
        self.restart().await;
    }

    pub async fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.exit_code().await;
    }

    pub async fn restart(&mut self) {
        self.process = spawn(&self.dir);
        self.listens().await;
    }

    async fn listens(&self) {
        eventually("nginx listening", || TcpStream::connect(self.address()).ok()).await;
    }
}

fn spawn(dir: &TempDir) -> Process {
    let mut command = Command::new("/usr/sbin/nginx");
    command
        .arg("-p")
        .arg(dir.path())
        .arg("-c")
        .arg(dir.path().join("nginx.conf"));
    Process::start(command)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
