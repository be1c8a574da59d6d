# shellcheck shell=bash
# What `deploy/secrets` is made of.

# write_once FILE COMMAND...: the command's output, unless the file exists. Whole or not at all.
write_once() {
    local file=$1
    shift
    [[ -e $file ]] && return
    "$@" >"$file.new"
    mv "$file.new" "$file"
}

# 256 bits, in letters that fit into URLs and settings.
secret() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

redis_url() { printf 'redis://jesse-jobs:%s@redis:6379/0\n' "$1"; }

# redis_acl PASSWORD BACKUP_PASSWORD. The user of jesse-jobs may do all that it does to data and nothing to the server; others may not even connect.
redis_acl() {
    # `off` is enough: nobody gets in by this name. Its rights must stay, since a Redis reads its own log back as this user: without
    # them it leaves out, with no more than a line in its log, every transaction that was written there.
    printf 'user default off ~* &* +@all\n'
    # CONFIG GET and INFO tell whether this Redis is safe for jobs.
    printf 'user jesse-jobs on >%s ~* &* +@all -@dangerous +info +config|get +keys +cluster|slots +cluster|shards +cluster|nodes +client\n' "$1"
    # Takes backups: a replica's rights.
    printf 'user backup on >%s ~* &* +ping +info +psync +replconf +sync +select +auth +client|setname\n' "$2"
}

# The name that the certificate is for: PUBLIC_HOST of the environment or of .env.
public_host() {
    local host=${PUBLIC_HOST:-}
    if [[ -z $host && -r .env ]]; then host=$(sed -n 's/^PUBLIC_HOST=//p' .env | tail -n 1); fi
    printf '%s\n' "${host:-localhost}"
}

# certificate FILE HOST: certificate and key in one file, as HAProxy reads it. For a start; put a real one in its place.
certificate() {
    [[ -e $1 ]] && return
    local key certificate
    key=$(mktemp) certificate=$(mktemp)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=$2" \
        -addext "subjectAltName=DNS:$2,DNS:localhost,IP:127.0.0.1" -keyout "$key" -out "$certificate" 2>/dev/null
    cat "$certificate" "$key" >"$1"
    rm -f "$key" "$certificate"
}
