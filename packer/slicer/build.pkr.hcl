build {
  sources = ["source.docker.image", "source.amazon-ebs.image"]

  # Only here is a root of ours made, from nothing: the playbook's plays for kiln_root are skipped on Windows.
  provisioner "ansible" {
    only                    = ["docker.image"]
    playbook_file           = var.playbook
    command                 = var.ansible_command
    use_proxy               = false
    skip_version_check      = true
    user                    = "root"
    inventory_file_template = "[kiln_root]\ndefault ansible_host=${var.container} ansible_connection=community.docker.docker ansible_python_interpreter=/usr/bin/python3\n"
    extra_arguments         = ["--extra-vars", "@${var.extra_vars}"]
    ansible_env_vars        = var.ansible_env
  }

  # The password through the environment, where the file of variables looks for it: a command line is everybody's to
  # read. Packer would put it there, were no ansible_password named; the file comes last, so it decides.
  provisioner "ansible" {
    only                    = ["amazon-ebs.image"]
    playbook_file           = var.playbook
    command                 = var.ansible_command
    use_proxy               = false
    skip_version_check      = true
    inventory_file_template = "default ansible_host=${build.Host} ansible_port=${build.Port} ansible_user=${build.User} ansible_connection=psrp ansible_shell_type=powershell ansible_psrp_protocol=https ansible_psrp_auth=ntlm ansible_psrp_cert_validation=ignore ansible_psrp_operation_timeout=120 ansible_psrp_read_timeout=150\n"
    extra_arguments         = ["--extra-vars", "ansible_password=", "--extra-vars", "@${var.extra_vars}"]
    ansible_env_vars        = concat(var.ansible_env, ["KILN_PACKER_PASSWORD=${build.Password}"])
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
