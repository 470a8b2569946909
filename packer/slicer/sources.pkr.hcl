# The root stays a folder that kiln owns: nothing is committed or exported.
source "docker" "image" {
  image       = "kiln"
  pull        = false
  discard     = true
  run_command = var.run_command
}

# Boot mode, TPM and encryption come with the base AMI: launch looks at it before this starts (kiln bake --plan).
source "amazon-ebs" "image" {
  region                      = var.region
  custom_endpoint_ec2         = var.ec2_endpoint
  skip_region_validation      = var.ec2_endpoint != ""
  skip_metadata_api_check     = var.ec2_endpoint != ""
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_id
  iam_instance_profile        = var.iam_instance_profile
  user_data_file              = var.user_data_file
  associate_public_ip_address = false

  temporary_security_group_source_cidrs = var.source_cidrs

  ami_name        = "${var.project}-slicer-${var.version}"
  ami_description = "3D Slicer for AppStream, baked by kiln ${var.version}"
  ena_support     = true

  # EC2Launch v2 makes a password at random and gives it to the holder of the key; EC2 takes no ED25519 for that.
  communicator             = "winrm"
  temporary_key_pair_type  = "rsa"
  temporary_key_pair_bits  = 3072
  winrm_username           = "Administrator"
  winrm_host               = var.winrm_host
  winrm_port               = var.winrm_port
  winrm_use_ssl            = true
  winrm_use_ntlm           = true
  winrm_insecure           = true
  winrm_timeout            = "30m"
  windows_password_timeout = "30m"

  # The playbook ends in ec2launch sysprep --shutdown: a stop by Packer would cut it off.
  disable_stop_instance = true
  shutdown_behavior     = "stop"

  source_ami_filter {
    filters = {
      name                = var.base_ami_name
      root-device-type    = "ebs"
      virtualization-type = "hvm"
      architecture        = "x86_64"
    }
    owners      = [var.base_ami_owner]
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_size           = var.root_gb
    volume_type           = "gp3"
    throughput            = 250
    iops                  = 3000
    delete_on_termination = true
    encrypted             = false
  }

  # Windows updates and sysprep take their time; the default gives up after half an hour.
  aws_polling {
    delay_seconds = var.poll_seconds
    max_attempts  = 240
  }

  run_tags = {
    "kiln:run"   = var.run_id
    "kiln:image" = "slicer"
  }
  run_volume_tags = {
    "kiln:run" = var.run_id
  }
  tags = {
    "kiln:run"     = var.run_id
    "kiln:image"   = "slicer"
    "kiln:version" = var.version
    "kiln:base"    = "{{ .SourceAMI }}"
  }
  snapshot_tags = {
    "kiln:run"     = var.run_id
    "kiln:image"   = "slicer"
    "kiln:version" = var.version
  }
}
