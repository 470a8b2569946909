build {
  sources = ["source.docker.image", "source.amazon-ebs.image"]

  provisioner "ansible" {
    only                    = ["docker.image"]
    playbook_file           = var.playbook
    command                 = var.ansible_command
    use_proxy               = false
    skip_version_check      = true
    user                    = "root"
    inventory_file_template = "default ansible_host=${var.container} ansible_connection=community.docker.docker ansible_python_interpreter=/usr/bin/python3\n"
    extra_arguments         = ["--extra-vars", "@${var.extra_vars}"]
    ansible_env_vars        = var.ansible_env
  }

  # The role seal empties a host for good, and only one that has this mark of a build. /run is gone with the boot.
  provisioner "shell" {
    only   = ["amazon-ebs.image"]
    inline = ["sudo install --directory /run/kiln-build"]
  }

  provisioner "ansible" {
    only             = ["amazon-ebs.image"]
    playbook_file    = var.playbook
    command          = var.ansible_command
    use_proxy        = false
    user             = "admin"
    extra_arguments  = ["--become", "--extra-vars", "@${var.extra_vars}"]
    ansible_env_vars = concat(var.ansible_env, ["ANSIBLE_SSH_TRANSFER_METHOD=sftp", "ANSIBLE_SSH_ARGS=-o ControlMaster=auto -o ControlPersist=60s"])
  }

  # A container leaves no artifact to name; the folder is the result.
  post-processor "manifest" {
    only       = ["amazon-ebs.image"]
    output     = var.manifest
    strip_path = true
    custom_data = {
      version = var.version
      run_id  = var.run_id
    }
  }
}
