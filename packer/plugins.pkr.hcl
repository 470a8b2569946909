# For `packer init packer/plugins.pkr.hcl` of Packer 1.7 and newer, whose builders are plugins.
# Packer 1.6.6 has them built in and refuses this block, so it is not part of a template.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.3"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "~> 1.1"
    }
    docker = {
      source  = "github.com/hashicorp/docker"
      version = "~> 1.1"
    }
  }
}
